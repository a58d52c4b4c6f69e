"""Let compressed operators hold the nodes around them, wherever a model has these as a kernel can run them.

An engine with kernels for our operators cannot fuse anything into them: what is not part of the operator is another
pass over the activations there, and of a quantised layer a pass in and one out.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sparse_rt.graph.layers.weights import constant_array
from sparse_rt.graph.names import Names, fresh_name
from sparse_rt.graph.neighbours.nodes import BIAS_AXIS
from sparse_rt.graph.neighbours.noted_names import note
from sparse_rt.graph.neighbours.record import ALONE, Activation, Addition, Neighbours, possible
from sparse_rt.graph.neighbours.shapes import Shapes
from sparse_rt.graph.operators import COMPRESSED, DOMAIN, FILTER_SHAPE, CompressedForm
from sparse_rt.graph.reads import sole_consumer

__all__ = ["absorb"]

_BYTES = (np.int8, np.uint8)
_ONE = ((), (1,))
"""Shapes of one number."""


def absorb(model: ir.Model) -> None:
    """Write every compressed operator of the main graph with the longest chain of neighbours that it may have.

    Nodes stay that somebody else reads, too, and those whose parameters are no constants of the usual types: one
    float32 scale and one 8-bit zero point for an activation, an int32 bias of one axis, float32 numbers as bounds, one
    float32 for each output channel as a bias that is added; so does an Add of two activations of which it is not
    certain that they have the same shape. What the operators write is noted with its shape, as far as it is known.

    Parameters
    ----------
    model
        Changed, but for the functions that its nodes call: see :func:`sparse_rt.graph.local_functions.add_functions`.
    """
    shapes, names = Shapes(model), Names(node.name for node in model.graph.all_nodes())
    # Of two layers whose results are added the later one takes the Add: by then the other's result is there.
    for node in reversed(list(model.graph)):
        form = COMPRESSED.get(node.op_type) if node.domain == DOMAIN else None
        if form is not None and form.neighbours == ALONE:
            inputs = {name: value for name, value in zip(form.inputs, node.inputs, strict=False) if value is not None}
            chain = _Chain(node, form, inputs, shapes)
            for grow in (_with_x, _with_bias, _with_addition, _with_activation, _with_y):
                chain = chain.extended(grow(chain))
            if chain.form.neighbours != ALONE:
                _write(model.graph, chain, names)
    shapes.note(node.outputs[0] for node in model.graph if node.domain == DOMAIN)


@dataclass(frozen=True, eq=False)
class _Chain:
    """A compressed operator with the neighbours that were found so far."""

    node: ir.Node
    form: CompressedForm
    inputs: dict[str, ir.Value]
    shapes: Shapes
    before: tuple[ir.Node, ...] = ()
    after: tuple[ir.Node, ...] = ()

    @property
    def y(self) -> ir.Value:
        """What its last node writes."""
        return (self.after[-1] if self.after else self.node).outputs[0]

    def extended(self, found: "_Found | None") -> "_Chain":
        """Return the chain with one neighbour more, if an operator with it exists."""
        if found is None or found.neighbours not in possible(self.form.dense):
            return self
        before, after = self.before, self.after
        if found.node.outputs[0] in self.node.inputs:
            before += (found.node,)
        else:
            after += (found.node,)
        form = replace(self.form, neighbours=found.neighbours)
        return replace(self, form=form, inputs=self.inputs | found.operands, before=before, after=after)


@dataclass(frozen=True, eq=False)
class _Found:
    """A neighbour: its node, those that the chain then has, and the operands that come with it."""

    node: ir.Node
    neighbours: Neighbours
    operands: dict[str, ir.Value]


def _with_x(chain: _Chain) -> _Found | None:
    """Return the DequantizeLinear of x."""
    node = chain.inputs["x"].producer()
    if node is None or node.graph is not chain.node.graph or not _is_of_bytes(node, "DequantizeLinear"):
        return None
    return _found(chain, node, replace(chain.form.neighbours, x=True), ("x", "x_scale", "x_zero_point"))


def _with_bias(chain: _Chain) -> _Found | None:
    """Return the DequantizeLinear of an int32 bias, of which no caller sees another one."""
    bias = chain.inputs.get("bias")
    node = None if bias is None else bias.producer()
    if node is None or node.graph is not chain.node.graph or not _is_standard(node, "DequantizeLinear", 3):
        return None
    if set(node.attributes) - {"axis"}:
        return None
    stored, scale, zero_point = map(constant_array, node.inputs)
    n = _channels(chain)
    if scale is None or not _is(stored, np.int32, (n,)) or not _is(scale, np.float32, *_ONE, (n,)):
        return None
    same = _ONE if scale.shape in _ONE else (scale.shape,)
    if zero_point is None or not _is(zero_point, np.int32, *same) or zero_point.any():
        return None
    if scale.size > 1 and node.attributes.get_int("axis", 1) not in (BIAS_AXIS, BIAS_AXIS - 1):
        return None
    return _found(chain, node, replace(chain.form.neighbours, bias=True), ("bias", "bias_scale", "bias_zero_point"))


def _with_addition(chain: _Chain) -> _Found | None:
    """Return an Add of a bias, or of another activation of the same shape."""
    node = sole_consumer(chain.y)
    if node is None or not _is_standard(node, "Add", 2):
        return None
    is_right = node.inputs[0] is chain.y
    other = node.inputs[1 if is_right else 0]
    if other is None:
        return None
    addition: Addition
    if _is(constant_array(other), np.float32, (_channels(chain),)):
        name, addition = "bias", "plus_bias" if is_right else "bias_plus"
    else:
        name, addition = "residual", "plus_residual" if is_right else "residual_plus"
    neighbours = replace(chain.form.neighbours, addition=addition)
    if neighbours not in possible(chain.form.dense):
        return None
    if name == "residual" and (other is chain.y or not chain.shapes.are_same(other, chain.y)):
        return None
    return _Found(node, neighbours, {name: other})


def _with_activation(chain: _Chain) -> _Found | None:
    """Return a Relu, or a Clip between two constants."""
    node = sole_consumer(chain.y)
    if node is None or node.inputs[0] is not chain.y:
        return None
    activation: Activation
    operands: tuple[str, ...]
    if _is_standard(node, "Relu", 1):
        activation, operands = "relu", ("y",)
    elif _is_standard(node, "Clip", 3) and all(_is(constant_array(value), np.float32, ()) for value in node.inputs[1:]):
        activation, operands = "clip", ("y", "low", "high")
    else:
        return None
    return _found(chain, node, replace(chain.form.neighbours, activation=activation), operands)


def _with_y(chain: _Chain) -> _Found | None:
    """Return the QuantizeLinear of y."""
    node = sole_consumer(chain.y)
    if node is None or node.inputs[0] is not chain.y or not _is_of_bytes(node, "QuantizeLinear"):
        return None
    return _found(chain, node, replace(chain.form.neighbours, y=True), ("y", "y_scale", "y_zero_point"))


def _found(chain: _Chain, node: ir.Node, neighbours: Neighbours, names: tuple[str, ...]) -> _Found:
    """Return a neighbour whose inputs are those operands; ``y`` is what the chain gives, and none."""
    operands = zip(names, node.inputs, strict=True)
    return _Found(node, neighbours, {name: value for name, value in operands if value is not None and name != "y"})


def _is_standard(node: ir.Node, op_type: str, inputs: int) -> bool:
    """Return whether a node is that standard operator, with all of so many inputs."""
    return node.domain == "" and node.op_type == op_type and len(node.inputs) == inputs and None not in node.inputs


def _is_of_bytes(node: ir.Node, op_type: str) -> bool:
    """Return whether a node (de)quantises bytes by one scale and one zero point."""
    if not _is_standard(node, op_type, 3) or set(node.attributes) - {"axis", "saturate"}:
        return False
    scale, zero_point = map(constant_array, node.inputs[1:])
    return _is(scale, np.float32, *_ONE) and any(_is(zero_point, dtype, *_ONE) for dtype in _BYTES)


def _is(array: NDArray[Any] | None, dtype: Any, *shapes: tuple[int, ...]) -> bool:
    """Return whether an operand is a constant of that dtype and of one of these shapes."""
    return array is not None and array.dtype == dtype and array.shape in shapes


def _channels(chain: _Chain) -> int:
    """Return how many output channels an operator has."""
    shape = chain.node.attributes[FILTER_SHAPE].as_tensor().numpy()
    return int(shape[chain.form.dense.channel_axis])


def _write(graph: ir.Graph, chain: _Chain, names: Names) -> None:
    """Put one node where the last one of the chain was: all that it reads is there by then."""
    old, last = chain.node, chain.after[-1] if chain.after else chain.node
    node = ir.Node(
        DOMAIN,
        chain.form.op_type,
        [chain.inputs.get(name) for name in chain.form.inputs],
        old.attributes.values(),
        # A layer without a name is called by what it writes, which is to be an inner value.
        name=old.name or fresh_name(str(old.outputs[0].name), names),
        doc_string=old.doc_string,
        metadata_props=old.metadata_props,
    )
    while node.inputs[-1] is None:
        node.resize_inputs(len(node.inputs) - 1)
    note(node, (*chain.before, old, *chain.after))
    node.outputs[0].meta.update(last.outputs[0].meta)
    ir.convenience.replace_nodes_and_values(
        graph, last, [old, *chain.after], [node], [last.outputs[0]], [node.outputs[0]]
    )
    for link in chain.before:
        if not link.outputs[0].uses() and not link.outputs[0].is_graph_output():
            graph.remove(link, safe=True)
