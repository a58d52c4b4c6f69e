"""Give every reader of a DequantizeLinear one of its own, so that integers, not floats, cross islands."""

from collections.abc import Iterable

import onnx_ir as ir

__all__ = ["separate_dequantise"]


def separate_dequantise(graph: ir.Graph, absorbed: Iterable[ir.Node]) -> None:
    """Copy each DequantizeLinear for each node of the graph that reads it, but those that steps of ours compute.

    onnxruntime then also finds the patterns DequantizeLinear -> operator -> QuantizeLinear that it fuses.

    Parameters
    ----------
    graph
        Changed.
    absorbed
        The nodes that steps of ours compute.
    """
    ours = set(absorbed)
    for node in list(graph):
        if node.op_type != "DequantizeLinear":
            continue
        value = node.outputs[0]
        readers = [use for use in value.uses() if use.node.graph is graph and use.node not in ours]
        for number, use in enumerate(readers[1:], start=1):
            copy = ir.Node(
                node.domain,
                node.op_type,
                node.inputs,
                attributes=list(node.attributes.values()),
                overload=node.overload,
                version=node.version,
                name=f"{node.name or value.name}/{number}",
            )
            copy.outputs[0].name = f"{value.name}/sparse_rt/{number}"
            copy.outputs[0].type, copy.outputs[0].shape = value.type, value.shape
            node.append(copy)
            use.node.replace_input_with(use.idx, copy.outputs[0])
