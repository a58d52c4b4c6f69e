"""What matching an operator needs to know of the graph around it: matchers see the graph and this, not each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from sparse_rt_kernels.between import elementwise as kernels

from sparse_rt.graph.layers.weights import constant_array
from sparse_rt.graph.reads import sole_consumer
from sparse_rt.plan.match.bounds import clip_bounds, clip_twice
from sparse_rt.plan.match.constants import ByteQuantisation, quantisation_of

__all__ = ["Context", "Ending", "Passage", "Source", "is_along_last_axis"]

_REAL = np.dtype(np.float32)
_LAST_AXIS_BY_DEFAULT = 13  # opset from which Softmax works along one axis, the last one unless told otherwise


@dataclass(frozen=True)
class Ending:
    """What follows an operator's own node: bounds, perhaps a QuantizeLinear.

    Attributes
    ----------
    y
        The last value.
    absorbed
        The nodes.
    low, high
        Bounds of Relu and Clip.
    quantised
        Parameters of the QuantizeLinear; None for float results.
    """

    y: ir.Value
    absorbed: tuple[ir.Node, ...]
    low: float = -np.inf
    high: float = np.inf
    quantised: ByteQuantisation | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of y."""
        return _REAL if self.quantised is None else self.quantised.dtype


@dataclass(frozen=True)
class Passage:
    """An operator that only moves or picks elements, with what surrounds it: it may work on bytes as they are.

    Attributes
    ----------
    x, y
        What it reads and writes.
    absorbed
        The nodes.
    dtype
        Of both; None where it is not known.
    """

    x: ir.Value
    y: ir.Value
    absorbed: tuple[ir.Node, ...]
    dtype: np.dtype[Any] | None


@dataclass(frozen=True)
class Source:
    """What an operator reads: float32, or bytes that it dequantises itself.

    Attributes
    ----------
    x, dtype
        The value that it reads.
    rows
        What bytes stand for; None for float32.
    """

    x: ir.Value
    dtype: np.dtype[Any]
    rows: kernels.QuantisedRows | None = None

    @property
    def bias(self) -> NDArray[np.float32] | None:
        """Of each column; None for none."""
        return None if self.rows is None else self.rows.bias


@dataclass
class Context:
    """The axes of values, the most specific tier of kernels, the nodes that are taken, and the dtypes known so far.

    Of axes only what is certain counts; see :func:`sparse_rt.graph.layers.ranks.find_ranks`. A tier of None leaves it
    to the CPU; see :func:`sparse_rt_kernels.cpu.isa.supported_tiers`.

    Nodes are matched in topological order, so that a dtype is known before it is asked for.
    """

    ranks: Mapping[ir.Value, int] = field(default_factory=dict)
    tier: str | None = None
    taken: set[ir.Node] = field(default_factory=set)
    dtypes: dict[ir.Value, np.dtype[Any]] = field(default_factory=dict)

    def dtype(self, value: ir.Value) -> np.dtype[Any] | None:
        """Return the dtype of a value, None where it is not known."""
        known = self.dtypes.get(value)
        if known is None and value.dtype is not None:
            try:
                known = value.dtype.numpy()
            except TypeError:
                return None
        return known

    def is_float(self, value: ir.Value | None) -> bool:
        """Return whether a value is known to be float32 and not a constant."""
        return value is not None and not self.is_constant(value) and self.dtype(value) == _REAL

    def number(self, value: ir.Value | None, other: ir.Value | None) -> np.float32 | None:
        """Return the one float32 that `value` is, if arithmetic with it leaves `other` its shape; else None.

        One element with an axis would give an axis to a number that has none.
        """
        array = constant_array(value)
        if array is None or array.dtype != _REAL or array.size != 1:
            return None
        rank = None if other is None else self.ranks.get(other)
        return None if array.ndim > (rank or 0) else np.float32(array.reshape(()))

    def is_written(self, value: ir.Value) -> bool:
        """Return whether a value will exist in a run: not within what a step of ours absorbs."""
        node = value.producer()
        return node is None or node not in self.taken or value in self.dtypes

    def is_constant(self, value: ir.Value) -> bool:
        """Return whether a value is an initializer or the output of a Constant node."""
        node = value.producer()
        return value.is_initializer() or (node is not None and node.op_type == "Constant")

    def quantised(self, value: ir.Value | None) -> tuple[ir.Value, ByteQuantisation] | None:
        """Return what a DequantizeLinear with constant parameters made `value` from; None if none did."""
        node = None if value is None else value.producer()
        if node is None or node.op_type != "DequantizeLinear" or node.inputs[0] is None:
            return None
        parameters = quantisation_of(node)
        if parameters is None or self.is_constant(node.inputs[0]):
            return None
        return node.inputs[0], parameters

    def source(self, value: ir.Value) -> Source:
        """Return what an operator that can dequantise for itself reads instead of the float32 `value`.

        That is what a DequantizeLinear made `value` from, perhaps with a bias added: an Add of a constant vector. Both
        are bypassed, not absorbed: whoever else reads them keeps them.
        """
        found, bias = self.quantised(value), None
        addition = value.producer()
        if found is None and addition is not None and addition.domain == "" and addition.op_type == "Add":
            for operand, other in (addition.inputs, reversed(addition.inputs)):
                bias = self.column_bias(other)
                found = None if bias is None else self.quantised(operand)
                if found is not None:
                    break
        if found is None:
            return Source(value, _REAL)
        x, parameters = found
        quantisation = parameters.tensor.quantisation
        return Source(x, parameters.dtype, kernels.QuantisedRows(quantisation, parameters.dtype, bias))

    def column_bias(self, value: ir.Value | None) -> NDArray[np.float32] | None:
        """Return a constant vector of float32, more than a scalar: one number for each column; else None."""
        bias = constant_array(value)
        return bias if bias is not None and bias.dtype == _REAL and bias.ndim == 1 and bias.size > 1 else None

    def ending(self, node: ir.Node, *, clips: bool = True, quantises: bool = True) -> Ending:
        """Follow a node to the end of what its kernel computes along: clips, if it can, and QuantizeLinear."""
        y, absorbed, low, high = node.outputs[0], [node], -np.inf, np.inf
        quantised: ByteQuantisation | None = None
        while (following := sole_consumer(y)) is not None and following not in self.taken:
            if following.inputs[0] is not y:
                break
            if following.op_type == "QuantizeLinear":
                quantised = quantisation_of(following) if quantises else None
                if quantised is not None:
                    y = following.outputs[0]
                    absorbed.append(following)
                break
            bounds = clip_bounds(following) if clips else None
            if bounds is None:
                break
            low, high = clip_twice((low, high), bounds)
            y = following.outputs[0]
            absorbed.append(following)
        return Ending(y, tuple(absorbed), low, high, quantised)

    def passage(self, node: ir.Node) -> Passage:
        """Return the passage of a node of one input: from DequantizeLinear to QuantizeLinear if they are inverse."""
        x = node.inputs[0]
        if x is None:
            raise ValueError(f"{node.op_type}: expected an input, got none.")
        source = self.quantised(x)
        if source is not None:
            end = self.ending(node, clips=False)
            before, after = source[1], end.quantised
            if after is not None and before.is_same(after):
                return Passage(source[0], end.y, end.absorbed, before.dtype)
        return Passage(x, node.outputs[0], (node,), self.dtype(x))


def is_along_last_axis(node: ir.Node, rank: int | None) -> bool:
    """Return whether a Softmax of an array of `rank` axes (None if that is not known) works along the last one."""
    opset = 0 if node.graph is None else node.graph.opset_imports.get("", 0)
    axis = node.attributes.get_int("axis", -1 if opset >= _LAST_AXIS_BY_DEFAULT else 1)
    return axis == -1 or (rank is not None and axis == rank - 1)
