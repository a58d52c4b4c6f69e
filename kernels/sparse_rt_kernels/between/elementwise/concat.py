"""Arrays put together along an axis, bytes as they are or through a table each."""

import functools
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.between.elementwise.byte_table import look_up_bytes
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.jit.compilation import TaskFunction, kernel_jit
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.parts import part_bounds, worthwhile_parts
from sparse_rt_kernels.threads.workspace import as_pointer

__all__ = ["prepare_concat"]

_RECORD = np.dtype([(name, "i8") for name in ("pieces", "count", "parts", "inputs")])
_PIECE = np.dtype([(name, "i8") for name in ("input", "source", "target", "nbytes", "table")])
#: Of one byte on one core.
_NANOSECONDS: Final = 0.05
#: Bytes of a row up to which it is one piece.
_MOST_BYTES: Final = 1 << 14


@kernel_jit
def _copy(source: int, target: int, count: int) -> int:
    """Copy `count` bytes from one address to another."""
    read, written = carray(as_pointer(source), (count,), np.uint8), carray(as_pointer(target), (count,), np.uint8)
    for i in range(count):
        written[i] = read[i]
    return 0


@functools.cache
def _task(level: int) -> TaskFunction:
    """Return the task for a level of :mod:`isa`."""

    def concat_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
        """Place one part of the pieces."""
        r = carray(arguments, (1,), _RECORD)[0]
        pieces = carray(as_pointer(r.pieces), (r.count,), _PIECE)
        first, last = part_bounds(r.count, 1, task, r.parts)
        for number in range(first, last):
            p = pieces[number]
            base = x
            if p.input > 0:
                base = other if r.inputs == 2 else carray(as_pointer(other), (r.inputs - 1,), np.int64)[p.input - 1]
            if p.table:
                look_up_bytes(level, base + p.source, out + p.target, p.nbytes, p.table, 0)
            else:
                _copy(base + p.source, out + p.target, p.nbytes)
        return 0

    return concat_task


def prepare_concat(
    rows: int, widths: Sequence[int], tables: Sequence[NDArray[Any] | None], threads: int, tier: str | None = None
) -> Launch:
    """Prepare ``y[r] = table_0[x_0[r]], table_1[x_1[r]], ...``: ``launch.run(x_0, y, pool, x_1, ...)``.

    Parameters
    ----------
    rows
        Of every array, all of them C-contiguous.
    widths
        Bytes of a row of each input; y's rows hold their sum.
    tables
        For each input (256,) bytes, copied: what its bytes 0 to 255 become; None for a plain copy.
    threads
        How many threads there are to split the work over.
    tier
        The most specific one whose instructions may be used; see :func:`isa.supported_tiers`.
    """
    held = [None if table is None else np.array(table).view(np.uint8) for table in tables]
    if any(table is not None and table.shape != (256,) for table in held):
        raise TypeError("concat: expected tables of 256 bytes.")
    addresses = [0 if table is None else table.ctypes.data for table in held]
    begins, total = np.cumsum([0, *widths[:-1]]).tolist(), sum(widths)
    pieces = np.array(
        [
            (number, r * width + at, r * total + begin + at, min(_MOST_BYTES, width - at), address)
            for r in range(rows)
            for number, (width, begin, address) in enumerate(zip(widths, begins, addresses, strict=True))
            for at in range(0, width, _MOST_BYTES)
        ],
        _PIECE,
    )
    parts = min(max(1, len(pieces)), worthwhile_parts(rows * total * _NANOSECONDS, threads))
    record = np.array([(pieces.ctypes.data, len(pieces), parts, len(widths))], _RECORD)
    return Launch([Phase(_task(isa.level(tier)), record, parts)], keep=(pieces, *held))
