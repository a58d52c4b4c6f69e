"""A call that is prepared for inputs of some shapes."""

from typing import Final

#: The next call of the kernel.
NEXT: Final = 8 * 0
#: The shapes: of each input its rank, then its sizes.
KEY: Final = 8 * 1
KEY_COUNT: Final = 8 * 2
#: The launches, as :func:`sparse_rt_kernels.threads.dispatch.dispatch_sequence` takes them.
SEQUENCE: Final = 8 * 3
#: The table of addresses: for each entry an offset into the arena, of so many bytes.
OFFSETS: Final = 8 * 4
OFFSET_COUNT: Final = 8 * 5
ARENA_BYTES: Final = 8 * 6
#: Which entries hold the addresses of inputs: pairs (number of the input, entry).
READS: Final = 8 * 7
READ_COUNT: Final = 8 * 8
#: Of each output the rank and the address of its sizes.
OUTPUTS: Final = 8 * 9
OUTPUT_COUNT: Final = 8 * 10
#: Which entries hold the addresses of outputs: pairs (number of the output, entry).
WRITES: Final = 8 * 11
WRITE_COUNT: Final = 8 * 12
#: Outputs that are another shape of an array: triples (input i, or -1 - output, number of the output, bytes).
COPIES: Final = 8 * 13
COPY_COUNT: Final = 8 * 14
#: Not 0 if it is in the kernel's list, and stays.
IS_KEPT: Final = 8 * 15
#: The threads that it was prepared for.
THREADS: Final = 8 * 16
COUNT: Final = 17
