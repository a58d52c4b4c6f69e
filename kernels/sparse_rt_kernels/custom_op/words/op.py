"""An operator: onnxruntime's OrtCustomOp, then what its functions answer with."""

from typing import Final

#: OrtCustomOp's version, and its functions; those that newer versions have added stay 0.
VERSION: Final = 8 * 0
GET_NAME: Final = 8 * 2
GET_PROVIDER: Final = 8 * 3
GET_INPUT_TYPE: Final = 8 * 4
GET_INPUT_COUNT: Final = 8 * 5
GET_OUTPUT_TYPE: Final = 8 * 6
GET_OUTPUT_COUNT: Final = 8 * 7
DESTROY: Final = 8 * 9
GET_INPUT_KIND: Final = 8 * 10
GET_OUTPUT_KIND: Final = 8 * 11
GET_INPUT_MEMORY: Final = 8 * 12
GET_FEWEST_INPUTS: Final = 8 * 13
ARE_INPUTS_ALIKE: Final = 8 * 14
GET_FEWEST_OUTPUTS: Final = 8 * 15
ARE_OUTPUTS_ALIKE: Final = 8 * 16
CREATE: Final = 8 * 17
COMPUTE: Final = 8 * 18
#: Words of the newest OrtCustomOp, and some room.
FIRST: Final = 32
LIBRARY: Final = 8 * (FIRST)
NAME: Final = 8 * (FIRST + 1)
NUMBER: Final = 8 * (FIRST + 2)
#: How many inputs, and for each the element type, and whether it is required (0), optional (1) or variadic (2).
INPUT_COUNT: Final = 8 * (FIRST + 3)
INPUT_TYPES: Final = 8 * (FIRST + 4)
INPUT_KINDS: Final = 8 * (FIRST + 5)
OUTPUT_COUNT: Final = 8 * (FIRST + 6)
OUTPUT_TYPES: Final = 8 * (FIRST + 7)
OUTPUT_KINDS: Final = 8 * (FIRST + 8)
COUNT: Final = FIRST + 9
