"""What is checked of a library when it is registered: the data that it is mostly made of."""

from typing import Final

#: The function that goes on, of the first two words of RegisterCustomOps.
GO_ON: Final = 8 * 0
#: Rows of four words: the address of a block, its bytes, and the two words of its checksum; and how many there are.
ROWS: Final = 8 * 1
ROW_COUNT: Final = 8 * 2
#: The text of the error.
DAMAGED: Final = 8 * 3
COUNT: Final = 4
