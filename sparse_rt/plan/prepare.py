"""Bring a model to the form in which its layers are found."""

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from sparse_rt.graph.operators import DOMAIN
from sparse_rt.plan.fold import fold
from sparse_rt.plan.pad import absorb_pads
from sparse_rt.plan.unfuse import unfuse

__all__ = ["prepare"]


def prepare(model: ir.Model) -> ir.Model:
    """Return the model with local functions inlined, constants folded, pads in convolutions, fused operators apart.

    Names of layers, and of the values that they read and write, stay as they were.

    Parameters
    ----------
    model
        Changed.
    """
    _inline(model)
    model = fold(model)
    absorb_pads(model)
    unfuse(model)
    return model


def _inline(model: ir.Model) -> None:
    """Replace calls of the model's own functions by their bodies, where layers hide; ours keep their form."""
    if all(function.domain == DOMAIN for function in model.functions.values()):
        return
    versions = model.opset_imports
    foreign = [function for function in model.functions.values() if function.domain != DOMAIN]
    if any(versions.get(domain, version) != version for f in foreign for domain, version in f.opset_imports.items()):
        return  # bodies of another opset cannot be inlined; onnxruntime runs them as they are
    InlinePass(criteria=lambda function: function.domain != DOMAIN)(model)
