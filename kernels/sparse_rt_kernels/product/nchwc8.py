"""NCHWc8, the layout of images of bytes in blocks of channels: 8 channels of a pixel are neighbours."""

from dataclasses import dataclass
from typing import Final

from sparse_rt_kernels.cpu.caches import LINE

__all__ = ["CHANNEL_BLOCK", "NCHWc8"]

#: Channels of a block: what one 8-byte broadcast brings to a convolution.
CHANNEL_BLOCK: Final = 8


@dataclass(frozen=True, slots=True)
class NCHWc8:
    """How images lie in memory: (batch, channels / 8, rows, columns, 8) unsigned bytes, planes padded to cache lines.

    Bytes are unsigned: int8 is stored with 128 added. Rows and columns count a border around each plane, so that a
    convolution reads its padding like any pixel. The border belongs to the array: whoever writes the array fills it
    with `pad`, and who reads it asks :meth:`holds` whether that is the padding it needs. Bytes between the planes
    belong to nobody, and hold anything.

    Attributes
    ----------
    batch, channels, height, width
        Of the images; channels are a multiple of 8.
    border
        (top, left, bottom, right): rows and columns around each plane.
    pad
        The unsigned byte that they hold.
    """

    batch: int
    channels: int
    height: int
    width: int
    border: tuple[int, int, int, int] = (0, 0, 0, 0)
    pad: int = 0

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(b, c, h, w) of the images."""
        return self.batch, self.channels, self.height, self.width

    @property
    def array_shape(self) -> tuple[int, int, int]:
        """Shape of the array of bytes that holds them: images, blocks of channels, bytes of a plane of blocks."""
        return self.batch, self.channels // CHANNEL_BLOCK, self.plane_bytes

    @property
    def rows(self) -> int:
        """Rows with the border."""
        return self.height + self.border[0] + self.border[2]

    @property
    def row_bytes(self) -> int:
        """From row to row."""
        return (self.width + self.border[1] + self.border[3]) * CHANNEL_BLOCK

    @property
    def plane_bytes(self) -> int:
        """From 8 channels to the next 8: an odd number of cache lines, so that planes begin in different sets."""
        return (-(-self.rows * self.row_bytes // LINE) | 1) * LINE

    @property
    def image_bytes(self) -> int:
        """From image to image."""
        return self.channels // CHANNEL_BLOCK * self.plane_bytes

    @property
    def first_pixel(self) -> int:
        """Where the first pixel lies within the border."""
        return self.border[0] * self.row_bytes + self.border[1] * CHANNEL_BLOCK

    @property
    def has_border(self) -> bool:
        """Whether there are any."""
        return any(self.border)

    def holds(self, pads: tuple[int, int, int, int], pad: int) -> bool:
        """Return whether the border holds padding: `pads` rows and columns of the unsigned byte `pad`."""
        has_room = all(need <= border for need, border in zip(pads, self.border, strict=True))
        return has_room and (pad == self.pad or not any(pads))
