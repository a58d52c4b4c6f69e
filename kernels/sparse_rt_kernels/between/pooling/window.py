"""Where the windows of a pooling operator lie."""

from dataclasses import dataclass

__all__ = ["Window"]


@dataclass(frozen=True, slots=True)
class Window:
    """Output pixel (p, q) covers input rows ``p * stride - top + (0 .. kernel - 1)`` of its plane; columns alike.

    Every window must meet the plane, which pads smaller than the kernel ensure, as ONNX demands them. Bottom and right
    pads follow from the output's size: a window that reaches beyond the plane is cut there.

    Attributes
    ----------
    planes
        Images times channels.
    height, width, out_height, out_width
        Of a plane.
    kernel, strides
        (rows, columns).
    top, left
        Pads before the plane.
    """

    planes: int
    height: int
    width: int
    out_height: int
    out_width: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    top: int
    left: int

    @classmethod
    def of(
        cls,
        shape: tuple[int, int, int, int],
        kernel: tuple[int, int],
        strides: tuple[int, int],
        pads: tuple[int, int, int, int],
        out_shape: tuple[int, int, int, int],
    ) -> "Window":
        """Return the windows of an operator on arrays of these shapes.

        Raises
        ------
        ValueError
            A window would lie in the padding alone, or a pad is negative.
        """
        made = cls(shape[0] * shape[1], *shape[2:], *out_shape[2:], kernel, strides, *pads[:2])
        for axis in (0, 1):
            last = (out_shape[2 + axis] - 1) * strides[axis] - pads[axis]
            if not 0 <= pads[axis] < kernel[axis] or last >= shape[2 + axis]:
                raise ValueError(f"pooling: expected windows that meet the plane, got {made}.")
        return made

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
