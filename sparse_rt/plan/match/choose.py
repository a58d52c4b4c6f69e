"""Choose a kernel for each layer, or say why none fits."""

import math
from dataclasses import dataclass

from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.product import registry

from sparse_rt.formats import DENSE, Format, SparseWeight
from sparse_rt.graph.layers.layer import Layer
from sparse_rt.graph.mapped import release
from sparse_rt.plan.decisions import LayerDecision
from sparse_rt.plan.match.fusion import Fusion, FusionOf
from sparse_rt.plan.match.operands import Refusal, operands
from sparse_rt.plan.match.packing import PackedWeights
from sparse_rt.plan.match.replacement import Replacement
from sparse_rt.plan.report import LayerFacts, Trial
from sparse_rt.plan.steps.convolution import Convolution
from sparse_rt.plan.steps.sparse_step import SparseStep

__all__ = ["Choice", "choose"]

_MAX_AXES = 2


@dataclass(frozen=True, eq=False)
class Choice:
    """The decision about one layer.

    Attributes
    ----------
    layer, facts
        As it was found, and what the report says of that.
    reason
        Why this kernel was chosen, or why the layer stays in onnxruntime.
    kernel
        Name of the kernel that runs it; None for onnxruntime.
    tried
        What was measured before it was decided.
    replacement
        What the kernel replaces and how it runs; None for onnxruntime.
    """

    layer: Layer
    facts: LayerFacts
    reason: str
    kernel: str | None = None
    tried: tuple[Trial, ...] = ()
    replacement: Replacement | None = None


def choose(
    layer: Layer,
    fusion_of: FusionOf,
    tier: str | None = None,
    decision: LayerDecision | None = None,
    packed: PackedWeights | None = None,
) -> Choice:
    """Settle how a layer runs: pack its weight for a kernel, or say why it stays in onnxruntime.

    `fusion_of` finds what its kernel computes along. `tier` is the most specific tier of kernels to use; None leaves it
    to the CPU. `decision` is what measurements, or an estimate, say of a layer that a kernel fits; None takes the best
    sparse kernel. `packed` holds the weights that layers of the same model share.

    Raises
    ------
    FormatError
        The model's compressed weight is corrupt.
    """
    if decision is not None and decision.kernel is None and layer.reason is None:
        if layer.stored is not None:
            # What stays dense is not encoded, but a corrupt file is refused all the same.
            _compressed(layer)
        return Choice(layer, _facts(layer), decision.reason, tried=decision.tried)
    compressed = _compressed(layer)
    if compressed is None:
        return Choice(layer, _facts(layer), layer.reason or "the weight is not constant")
    unfit = _unfit(layer)
    if unfit is not None:
        return Choice(layer, _facts(layer), unfit.reason)
    fusion = fusion_of(layer)
    name = None if decision is None else decision.kernel
    step = _step(fusion, compressed, tier, name, PackedWeights() if packed is None else packed)
    if isinstance(step, Refusal):
        return Choice(layer, _facts(layer), step.reason)
    kernel = step.kernel.name
    reason = f"{compressed.pattern.name} holds, and {kernel} is the best kernel for {step.kernel.dtype} on this CPU"
    if decision is not None and decision.kernel == kernel:
        reason = decision.reason
    candidates = (fusion.x, fusion.layer.x_zero_point, fusion.scale)
    reads = tuple(value for value in candidates if value is not None and value.name in step.inputs)
    replacement = Replacement(step, reads, fusion.y, fusion.absorbed)
    tried = () if decision is None else decision.tried
    return Choice(layer, _facts(layer), reason, kernel, tried, replacement)


def _unfit(layer: Layer) -> Refusal | None:
    """Refuse layers that no kernel computes, whatever their operands are."""
    if layer.reason is not None:
        return Refusal(layer.reason)
    if 0 in layer.shape:
        return Refusal("the weight is empty")
    if len(layer.shape) - 2 > _MAX_AXES:
        return Refusal(f"expected at most 2 spatial axes, got {len(layer.shape) - 2}")
    return None


def _facts(layer: Layer) -> LayerFacts:
    return LayerFacts(
        y=str(layer.y.name),
        name=layer.name,
        op_type=layer.op_type,
        shape=layer.shape,
        pattern=None if layer.pattern is None else layer.pattern.name,
        density=layer.density(),
        dtype=str(layer.dtype),
        dense_bytes=math.prod(layer.shape) * layer.dtype.itemsize if layer.shape else 0,
        compressed_bytes=layer.compressed_nbytes(),
    )


def _compressed(layer: Layer) -> SparseWeight | None:
    if layer.reason is not None and layer.stored is None:
        return None
    compressed = layer.compressed
    if compressed is not None and layer.stored is not None:
        # The kernels trust their operands: a corrupt file is refused here.
        compressed.check(f"layer '{layer.name}'")
    return compressed


def _step(
    fusion: Fusion,
    compressed: SparseWeight,
    tier: str | None,
    name: str | None,
    packed: PackedWeights,
) -> SparseStep | Refusal:
    layer = fusion.layer
    if layer.kind == "conv_transpose":
        compressed = compressed.rotate180()
    found = operands(fusion, compressed)
    if isinstance(found, Refusal):
        return found
    kernel = _kernel(found.dtype, compressed.format, tier, name)
    if isinstance(kernel, Refusal):
        return kernel
    is_shared = layer.weight is not None and layer.weight.readers > 1
    weight = packed.of(kernel, found.weight, is_shared)
    for tensor in compressed.tensors:
        release(tensor)
    return SparseStep(
        op_type=layer.op_type,
        name=layer.name,
        x=str(fusion.x.name),
        y=str(fusion.y.name),
        x_dtype=found.x_dtype,
        y_dtype=found.y_dtype,
        kernel=kernel,
        packed=weight,
        epilogue=found.epilogue,
        n=layer.shape[0],
        channels=layer.shape[1],
        side=layer.constant_side,
        convolution=None if layer.kind == "matmul" else Convolution.of(layer, found.pad_value),
        x_zero_point=found.x_zero_point,
        scale=found.scale,
        pad_value=found.pad_value,
        requantisation=found.requantisation,
        x_rank=2 if layer.op_type in ("Gemm", "QGemm") else None,
    )


def _kernel(dtype: str, format: Format, tier: str | None, name: str | None) -> registry.Kernel | Refusal:
    """Return the kernel of that name; where it does not fit, or none is named, the best one for the format."""
    for kernel in registry.kernels() if name is not None else ():
        fits = kernel.dtype == dtype and kernel.format in (format.name, DENSE.name)
        if kernel.name == name and fits and kernel.isa in isa.supported_tiers(tier):
            return kernel
    try:
        return registry.select(dtype, format.name, tier)
    except LookupError:
        return Refusal(f"no kernel for {dtype} fits this CPU")
