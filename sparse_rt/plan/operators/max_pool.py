"""MaxPool over images, of float32 or of bytes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from sparse_rt_kernels.launch import Launch
from sparse_rt_kernels.pooling import prepare_max_pool

from sparse_rt.plan.operator_step import OperatorStep
from sparse_rt.plan.operators.context import Context
from sparse_rt.plan.replacement import Replacement
from sparse_rt.plan.step import Shape

__all__ = ["match"]

_PAIR = 2


@dataclass(frozen=True)
class _Pool:
    """The attributes of a MaxPool over two axes, without dilation."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]

    @classmethod
    def of(cls, node: ir.Node) -> "_Pool | None":
        """Read a node's attributes; None for those that the kernel does not know."""
        attributes = node.attributes
        kernel: Any = tuple(attributes.get_ints("kernel_shape", ()))
        if len(kernel) != _PAIR or attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
            return None
        if attributes.get_int("ceil_mode", 0) or attributes.get_int("storage_order", 0):
            return None
        strides: Any = tuple(attributes.get_ints("strides", (1, 1)))
        pads: Any = tuple(attributes.get_ints("pads", (0, 0, 0, 0)))
        if tuple(attributes.get_ints("dilations", (1, 1))) != (1, 1) or len(node.outputs) != 1:
            return None
        # ONNX demands pads smaller than the kernel; a window in the padding alone has no largest element.
        if min(pads) < 0 or any(pads[axis] >= kernel[axis % _PAIR] for axis in range(2 * _PAIR)):
            return None
        return cls(kernel, strides, pads)

    def output(self, shape: Shape) -> Shape:
        """Return y's shape."""
        if len(shape) != _PAIR + 2:
            raise ValueError("4 axes")
        sizes: list[int | None] = []
        for axis, size in enumerate(shape[2:]):
            room = None if size is None else size + self.pads[axis] + self.pads[axis + _PAIR] - self.kernel[axis]
            if room is not None and room < 0:
                raise ValueError(f"images of at least the kernel's size {self.kernel}")
            sizes.append(None if room is None else room // self.strides[axis] + 1)
        return (*shape[:2], *sizes)

    def prepare(self, dtype: np.dtype[Any], shape: Any, y_shape: Any, threads: int) -> Launch:
        """Return the launch for arrays of these shapes."""
        return prepare_max_pool(shape, dtype, self.kernel, self.strides, self.pads, y_shape, threads)


def match(node: ir.Node, context: Context) -> Replacement | None:
    """Match MaxPool of float32 or bytes, or of dequantised bytes that are quantised again as they were."""
    pool, x = _Pool.of(node), node.inputs[0]
    if node.domain != "" or pool is None or x is None:
        return None
    passage = context.passage(node)
    x, dtype = passage.x, passage.dtype
    if dtype is None or dtype.char not in "fbB" or context.is_constant(x):
        return None
    step = OperatorStep(
        op_type=node.op_type,
        name=str(node.name),
        inputs=(str(x.name),),
        dtypes=(dtype,),
        y=str(passage.y.name),
        y_dtype=dtype,
        shape_of=pool.output,
        prepare=lambda shape, y_shape, threads: pool.prepare(dtype, shape, y_shape, threads),
    )
    return Replacement(step, (x,), passage.y, passage.absorbed)
