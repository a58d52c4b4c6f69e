"""A domain of operators."""

from typing import Final

#: Address of its name; the first of its operators, blocks of :mod:`.op`, and how many there are.
NAME: Final = 8 * 0
OPS: Final = 8 * 1
OP_COUNT: Final = 8 * 2
#: What onnxruntime has made of it: an OrtCustomOpDomain.
OBJECT: Final = 8 * 3
COUNT: Final = 4
