"""The windows of pooling operators over images."""

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from sparse_rt.plan.steps.step import Shape

__all__ = ["Window"]

_PAIR = 2


@dataclass(frozen=True)
class Window:
    """The attributes of a pooling over two axes, without dilation.

    Attributes
    ----------
    kernel, strides
        (rows, columns).
    pads
        (top, left, bottom, right).
    is_rounded_up
        Whether a last window that reaches beyond the padding counts (``ceil_mode``).
    """

    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    is_rounded_up: bool

    @classmethod
    def of(cls, node: ir.Node) -> "Window | None":
        """Read a node's attributes; None for those that the kernels do not know."""
        attributes = node.attributes
        kernel: Any = tuple(attributes.get_ints("kernel_shape", ()))
        if len(kernel) != _PAIR or attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
            return None
        if attributes.get_int("storage_order", 0):
            return None
        strides: Any = tuple(attributes.get_ints("strides", (1, 1)))
        pads: Any = tuple(attributes.get_ints("pads", (0, 0, 0, 0)))
        if tuple(attributes.get_ints("dilations", (1, 1))) != (1, 1) or len(node.outputs) != 1:
            return None
        # ONNX demands pads smaller than the kernel; a window in the padding alone has no largest element.
        if min(pads) < 0 or any(pads[axis] >= kernel[axis % _PAIR] for axis in range(2 * _PAIR)):
            return None
        return cls(kernel, strides, pads, attributes.get_int("ceil_mode", 0) != 0)

    def output(self, shape: Shape) -> Shape:
        """Return y's shape; ValueError where x does not fit."""
        if len(shape) != _PAIR + 2:
            raise ValueError("4 axes")
        if 0 in shape[1:]:
            raise ValueError("images of at least one channel and one pixel")
        return (*shape[:2], *(self._size(axis, size) for axis, size in enumerate(shape[2:])))

    def _size(self, axis: int, size: int | None) -> int | None:
        """Return the windows along an axis, as onnxruntime counts them: they may be none, or one that is cut short."""
        if size is None:
            return None
        stride, before = self.strides[axis], self.pads[axis]
        room = size + before + self.pads[axis + _PAIR] - self.kernel[axis]
        if self.is_rounded_up:
            count = -(-room // stride) + 1
            # A window that begins behind the image is none.
            count -= (count - 1) * stride >= size + before
        else:
            # Towards 0, also of what is missing.
            count = 1 - -room // stride if room < 0 else room // stride + 1
        if count < 0:
            raise ValueError(f"images of at least the kernel's size {self.kernel}")
        return count
