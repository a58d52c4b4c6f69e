"""Follow an operator's input back to the constant tensor that it is made of."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

__all__ = ["LINKS", "ConstantWeight", "constant_array", "constant_tensor", "trace"]

LINKS = ("Identity", "Transpose", "DequantizeLinear")
"""Operators that a weight is seen through."""


@dataclass(frozen=True, eq=False)
class ConstantWeight:
    """A constant operand: a tensor, seen through DequantizeLinear, Transpose and Identity nodes."""

    root: ir.Value
    """The initializer, or the output of a Constant node."""

    tensor: ir.TensorProtocol
    """The root's data; read only when :meth:`array` is called."""

    chain: tuple[ir.Node, ...]
    """The nodes from the root to the operand, in order of computation."""

    perm: tuple[int, ...]
    """Operand axis i is axis ``perm[i]`` of the tensor."""

    dequantize: ir.Node | None
    """The DequantizeLinear node of the chain."""

    axis: int | None
    """The operand's axis that DequantizeLinear's ``axis`` attribute (default 1) names; None without one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the operand."""
        shape = self.tensor.shape.numpy()
        return tuple(int(shape[axis]) for axis in self.perm)

    def array(self) -> np.ndarray[Any, Any]:
        """Return the operand's elements as stored (integers not dequantised), a view of the tensor."""
        return self.tensor.numpy().transpose(self.perm)

    def replace(self, operand: np.ndarray[Any, Any]) -> None:
        """Give the model's constant new elements, of the operand's shape and the tensor's dtype."""
        array = np.ascontiguousarray(operand.transpose(np.argsort(self.perm)))
        tensor = ir.Tensor(array, dtype=self.tensor.dtype, name=self.tensor.name)
        producer = self.root.producer()
        if producer is None:
            self.root.const_value = tensor
            return
        producer.attributes.clear()
        producer.attributes.add(ir.AttrTensor("value", tensor))


def constant_tensor(value: ir.Value | None) -> ir.TensorProtocol | None:
    """Return the tensor of an initializer that no caller can override, or of a Constant node; else None."""
    if value is None:
        return None
    if value.is_initializer():
        return None if value.is_graph_input() else value.const_value
    # Looks through Constant nodes; Identity is followed by trace, which must know the nodes on the way.
    return ir.convenience.get_const_tensor(value)


def constant_array(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    """Return the elements of a constant value, else None."""
    tensor = constant_tensor(value)
    return None if tensor is None else tensor.numpy()


def trace(value: ir.Value | None) -> ConstantWeight | None:
    """Return the constant that `value` is made of, or None if it depends on anything else.

    Parameters
    ----------
    value
        An operator's input. An initializer that is also a graph input is a default, not a constant.
    """
    chain: list[ir.Node] = []
    is_dequantised = False
    while value is not None and constant_tensor(value) is None:
        node = value.producer()
        if node is None or node.domain != "" or node.op_type not in LINKS:
            return None
        if node.op_type == "DequantizeLinear":
            if is_dequantised:
                return None
            is_dequantised = True
        chain.append(node)
        value = node.inputs[0]
    tensor = constant_tensor(value)
    if value is None or tensor is None:
        return None
    chain.reverse()
    return _follow(value, tensor, tuple(chain))


def _follow(root: ir.Value, tensor: ir.TensorProtocol, chain: tuple[ir.Node, ...]) -> ConstantWeight:
    """Compose the axis permutations along the chain."""
    rank = len(tensor.shape)
    perm = tuple(range(rank))
    dequantize, axis = None, None
    for node in chain:
        if node.op_type == "DequantizeLinear":
            dequantize = node
            named = node.attributes.get_int("axis", 1)
            axis = perm[named % rank] if rank else None
        elif node.op_type == "Transpose":
            step = node.attributes.get_ints("perm", tuple(reversed(range(rank))))
            perm = tuple(perm[old] for old in step)
    operand_axis = perm.index(axis) if axis is not None else None
    return ConstantWeight(root, tensor, chain, perm, dequantize, operand_axis)
