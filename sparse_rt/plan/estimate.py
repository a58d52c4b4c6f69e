"""An estimate in place of a measurement: when selecting by index costs more than it saves."""

import math

from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.product import registry

from sparse_rt.graph.layers.layer import Layer
from sparse_rt.plan.decisions import Decisions, LayerDecision
from sparse_rt.plan.draft import Draft

__all__ = ["HAND_OVER_MICROSECONDS", "estimated_decisions", "has_fast_kernels", "saved_microseconds"]

#: What leaving for onnxruntime in the middle of a plan costs, its call and the first touch of its arrays; see
#: docs/tuning.md.
HAND_OVER_MICROSECONDS = 10.0
#: The least of the tiers whose kernels are written for it.
_LEAST_TIER = "avx2"
_CYCLES_PER_MICROSECOND = 4000.0


def estimated_decisions(draft: Draft) -> Decisions:
    """Return the decisions about layers of known shape that a sparse kernel would slow down.

    It looks at sizes in the model alone, and so decides alike on all CPUs that have SIMD kernels.
    """
    layers = {}
    for layer in draft.layers:
        decision = _estimate(layer)
        if decision is not None:
            layers[str(layer.y.name)] = decision
    return Decisions(layers)


def has_fast_kernels() -> bool:
    """Return whether there are kernels for this CPU that are not the portable ones, which onnxruntime's outrun."""
    return isa.fits(_LEAST_TIER, isa.cpu_features())


def saved_microseconds(format: str, m: int, n: int, k: int) -> float | None:
    """Return what selecting the stored elements saves in a float32 product on one thread; may be negative.

    None where no kernel for weights of that format estimates it. The CPU's own kernel may be another one: decisions
    shall be the same everywhere.
    """
    for kernel in registry.kernels():
        if (kernel.dtype, kernel.format) == ("f32", format) and kernel.saved_cycles is not None:
            return kernel.saved_cycles(m, n, k) / _CYCLES_PER_MICROSECOND
    return None


def _estimate(layer: Layer) -> LayerDecision | None:
    """Return the decision to leave a layer to onnxruntime, None to take the sparse kernel."""
    if layer.reason is not None or layer.format is None:
        return None
    if not has_fast_kernels():
        return LayerDecision(None, "kept dense: this CPU has portable kernels only, which onnxruntime's outrun")
    rows = _rows(layer)
    if layer.kind != "matmul" or layer.constant_side != "right" or rows is None or layer.form != "float":
        # Convolutions and integers save at every size that was measured.
        return None
    n, k = layer.shape
    saved = saved_microseconds(layer.format.name, rows, n, k)
    if saved is None or saved > -HAND_OVER_MICROSECONDS:
        return None
    return LayerDecision(
        None, f"kept dense: n = {n}, k = {k}, selection is estimated to cost {-saved:.0f} us more than it saves"
    )


def _rows(layer: Layer) -> int | None:
    """Return m of a matrix product, None where it is not known."""
    sizes = None if layer.x.shape is None else layer.x.shape.dims
    known = [size for size in sizes or () if isinstance(size, int)]
    return math.prod(known[:-1]) if sizes and len(known) == len(sizes) else None
