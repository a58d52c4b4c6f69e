"""A node whose kernel a library holds, with all calls that it can make: no Python is needed to make the kernel of it.

Calls that differ in nothing but the leading sizes of their inputs do parts of a larger one: so many units each, where a
unit is what one row or image of each input is. See :mod:`sparse_rt_kernels.custom_op.frozen`.
"""

from typing import Final

#: The next one.
NEXT: Final = 8 * 0
#: The library's block; the number of the node's operator.
LIBRARY: Final = 8 * 1
NUMBER: Final = 8 * 2
#: What tells the node from others: two words; see :mod:`sparse_rt_kernels.custom_op.identity`.
IDENTITY: Final = 8 * 3
#: The attributes that are looked at, blocks of :mod:`.attribute`, and how many there are.
ATTRIBUTES: Final = 8 * 5
ATTRIBUTE_COUNT: Final = 8 * 6
#: How many inputs a call reads, and which ones of the node.
INPUT_COUNT: Final = 8 * 7
INPUTS: Final = 8 * 8
#: The first of its calls.
CALLS: Final = 8 * 9
#: How many sizes lead; 0 where no call is a part of another one.
LEADING: Final = 8 * 10
#: For each input, and each output, the bytes of a unit; 0 for an input that all parts read whole.
INPUT_BYTES: Final = 8 * 11
OUTPUT_BYTES: Final = 8 * 12
#: The text of the error that there is no call for the shapes of inputs.
NO_CALL: Final = 8 * 13
#: The text of the error that the library holds no such node, in the first one.
NO_NODE: Final = 8 * 14
COUNT: Final = 15
