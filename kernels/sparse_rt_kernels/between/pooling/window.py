"""Where the windows of a pooling operator lie."""

from dataclasses import dataclass

__all__ = ["Window"]


@dataclass(frozen=True, slots=True)
class Window:
    """Output pixel (p, q) covers input rows ``p * stride - top + (0 .. kernel - 1)`` of its plane; columns alike.

    Every window must meet the plane, which pads smaller than the kernel ensure, as ONNX demands them. The output's
    size, rounded either way (``ceil_mode``), says how many there are: what reaches beyond the plane is cut there.

    Attributes
    ----------
    planes
        Images times channels.
    height, width, out_height, out_width
        Of a plane.
    kernel, strides
        (rows, columns).
    pads
        (top, left, bottom, right). Where padding counts as zeros, it ends where the last two say.
    """

    planes: int
    height: int
    width: int
    out_height: int
    out_width: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]

    @classmethod
    def of(
        cls,
        shape: tuple[int, int, int, int],
        kernel: tuple[int, int],
        strides: tuple[int, int],
        pads: tuple[int, int, int, int],
        out_shape: tuple[int, int, int, int],
    ) -> "Window":
        """Return the windows of an operator on arrays of these shapes, (b, c, h, w) and (b, c, oh, ow); no size is 0.

        Raises
        ------
        ValueError
            A window would lie in the padding alone, or a pad is negative.
        """
        made = cls(shape[0] * shape[1], *shape[2:], *out_shape[2:], kernel, strides, pads)
        for axis in (0, 1):
            last = (out_shape[2 + axis] - 1) * strides[axis] - pads[axis]
            if not 0 <= pads[axis] < kernel[axis] or last >= shape[2 + axis]:
                raise ValueError(f"pooling: expected windows that meet the plane, got {made}.")
        return made

    @property
    def top(self) -> int:
        """Rows of padding above the plane."""
        return self.pads[0]

    @property
    def left(self) -> int:
        """Columns of padding before the plane."""
        return self.pads[1]

    @property
    def whole_rows(self) -> tuple[int, int]:
        """The first output row whose window lies within the plane's rows, and the first one after those."""
        down = self.strides[0]
        end = min(self.out_height, (self.height - self.kernel[0] + self.top) // down + 1)
        return -(-self.top // down), end

    @property
    def right(self) -> int:
        """Columns beyond the plane that the last window reaches."""
        return max(0, self.columns - self.left - self.width)

    @property
    def columns(self) -> int:
        """Columns from the first window's first to the last window's last, padding included."""
        return (self.out_width - 1) * self.strides[1] + self.kernel[1]
