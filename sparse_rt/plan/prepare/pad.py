"""Give a convolution the zeros that a Pad before it adds, as pads of its own."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from sparse_rt.graph.layers.weights import constant_array
from sparse_rt.graph.operators import COMPRESSED, DOMAIN

__all__ = ["absorb_pads"]

_PADS_BY_ATTRIBUTE = 2
_PADS_BY_INPUT = 11


def absorb_pads(model: ir.Model) -> None:
    """Remove each Pad that only adds zeros around an image, and widen the pads of the convolutions that read it.

    A Pad stays that crops, pads batch or channels, adds another value than 0 or copies of the image, or of which
    anything is computed at run time; so does one before a convolution that derives its pads from the image's size.

    Parameters
    ----------
    model
        Changed, in its main graph only.
    """
    opset = model.opset_imports.get("", 0)
    if opset < _PADS_BY_ATTRIBUTE:
        return
    for node in list(model.graph):
        while _is_convolution(node) and (pad := _pad_before(node)) is not None:
            around = _zeros_around(pad, node, opset)
            own = None if around is None else _own_pads(node, len(around))
            if around is None or own is None:
                break
            node.attributes.add(ir.AttrInt64s("pads", [a + b for a, b in zip(own, around, strict=True)]))
            node.attributes.pop("auto_pad", None)
            node.replace_input_with(0, pad.inputs[0])
            if not pad.outputs[0].uses() and not pad.outputs[0].is_graph_output():
                model.graph.remove(pad, safe=True)


def _is_convolution(node: ir.Node) -> bool:
    if node.domain == DOMAIN:
        form = COMPRESSED.get(node.op_type)
        return form is not None and form.dense.op_type == "Conv"
    return node.domain == "" and node.op_type == "Conv"


def _pad_before(node: ir.Node) -> ir.Node | None:
    x = node.inputs[0] if node.inputs else None
    producer = None if x is None else x.producer()
    if producer is None or producer.graph is not node.graph or producer.op_type != "Pad" or producer.domain != "":
        return None
    return producer


def _zeros_around(pad: ir.Node, reader: ir.Node, opset: int) -> list[int] | None:
    """Return how many zeros `pad` adds before and after each axis of the image, begins first; None if it does more."""
    if pad.attributes.get_string("mode", "constant") != "constant" or not pad.inputs or pad.inputs[0] is None:
        return None
    counts: Sequence[int] | None
    axes: Sequence[int] | None
    if opset < _PADS_BY_INPUT:
        counts, axes = pad.attributes.get_ints("pads", []), None
        is_zero = pad.attributes.get_float("value", 0.0) == 0
    else:
        given = [_integers(pad, position) for position in (1, 3)]
        if any(_has(pad, position) and found is None for position, found in zip((1, 3), given, strict=True)):
            return None
        counts, axes = given
        value = constant_array(pad.inputs[2]) if _has(pad, 2) else np.zeros(())
        is_zero = value is not None and value.size == 1 and value.dtype.kind in "fiu" and not value.any()
    if counts is None or not is_zero or min(counts, default=-1) < 0:
        return None
    rank = len(counts) // 2 if axes is None else _rank(pad, reader)
    whole = None if rank is None else _of_all_axes(counts, range(rank) if axes is None else axes, rank)
    if rank is None or rank < 3 or whole is None or any((*whole[:2], *whole[rank : rank + 2])):
        return None
    return [*whole[2:rank], *whole[rank + 2 :]]


def _has(node: ir.Node, position: int) -> bool:
    return len(node.inputs) > position and node.inputs[position] is not None


def _integers(node: ir.Node, position: int) -> Sequence[int] | None:
    array = constant_array(node.inputs[position]) if _has(node, position) else None
    if array is None or array.ndim > 1 or array.dtype.kind not in "iu":
        return None
    return [int(number) for number in array.reshape(-1)]


def _rank(pad: ir.Node, reader: ir.Node) -> int | None:
    values = (pad.inputs[0], pad.outputs[0], reader.inputs[1] if len(reader.inputs) > 1 else None)
    shapes = [value.shape for value in values if value is not None and value.shape is not None]
    return len(shapes[0]) if shapes and reader.domain == "" else None


def _of_all_axes(counts: Sequence[int], axes: Sequence[int], rank: int) -> list[int] | None:
    """Spread counts that are given for some axes over all; None where they contradict themselves."""
    places = [axis + rank if axis < 0 else axis for axis in axes]
    if len(counts) != 2 * len(places) or len(set(places)) != len(places) or not set(places) <= set(range(rank)):
        return None
    whole = [0] * (2 * rank)
    for number, place in enumerate(places):
        whole[place], whole[rank + place] = counts[number], counts[len(places) + number]
    return whole


def _own_pads(node: ir.Node, length: int) -> list[int] | None:
    """Return a convolution's own pads; None if they depend on the image, or do not fit it."""
    auto_pad = node.attributes.get_string("auto_pad", "NOTSET")
    if auto_pad == "VALID":
        return [0] * length
    pads = node.attributes.get_ints("pads")
    if auto_pad != "NOTSET" or (pads is not None and (len(pads) != length or min(pads) < 0)):
        return None
    return [0] * length if pads is None else list(pads)
