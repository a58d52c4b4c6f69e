"""The sizes that all int8 products share: of register tiles, of packed panels, and of the steps of a reduction."""

from typing import Final

__all__ = ["CHANNELS", "PANEL_STEP", "ROWS", "STEP"]

#: Activation rows of a packed panel, and of a tile of the tallest kind: 24 accumulators of AVX-512's 32 registers.
ROWS: Final = 24
#: Output channels of a block: the int32 lanes of one 64-byte register.
CHANNELS: Final = 16
#: Reduction elements of one step: what one 8-byte broadcast brings, and what one byte of a 2:4 index covers.
STEP: Final = 8
#: Bytes of one step of a packed panel, (24, 8).
PANEL_STEP: Final = ROWS * STEP
