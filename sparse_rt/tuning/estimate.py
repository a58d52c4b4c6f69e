"""An estimate in place of a measurement: when selecting by index costs more than it saves."""

import math

from sparse_rt_kernels.cpu import isa

from sparse_rt.formats import N2M4
from sparse_rt.graph.layers.layer import Layer
from sparse_rt.plan.decisions import Decisions, LayerDecision
from sparse_rt.plan.draft import Draft

__all__ = ["HAND_OVER_MICROSECONDS", "estimated_decisions", "saved_microseconds"]

#: What leaving for onnxruntime in the middle of a plan costs, its call and the first touch of its arrays; see
#: docs/tuning.md.
HAND_OVER_MICROSECONDS = 10.0
#: The least of the tiers whose kernels are written for it.
_LEAST_TIER = "avx2"
_CYCLES_PER_MICROSECOND = 4000.0
#: Rows below which float32 products make channels the lanes, so that nothing is turned.
_FEW_ROWS = 96


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


def saved_microseconds(dtype: str, m: int, n: int, k: int) -> float:
    """Return what the sparse kernel of a matrix product saves against a dense engine on one thread; may be negative.

    ``u8s8``: a dense engine takes 24 cycles for a tile of 24 rows, 16 channels and 8 reduction elements, the sparse
    kernel 17 and, once for all rows, 2.4 to expand the indexes.

    ``f32``: a dense engine takes 1/32 cycle an element of the product, the sparse kernel 3/5 of that; but its lanes are
    rows, so that x and y are turned: 1/4 cycle an element of x, 7/16 one of y. With few channels or a short reduction
    this is more than is saved; measured, 512 rows: n = 16 loses at every k, n = 64 up to k = 32.
    """
    if dtype == "f32":
        turned = 0.0 if m < _FEW_ROWS else m * (7 / 16 * n + k / 4)
        cycles = m * n * k / 80 - turned
    else:
        steps = math.ceil(n / 16) * math.ceil(k / 8)
        cycles = steps * (7 * m / 24 - 2.4)
    return cycles / _CYCLES_PER_MICROSECOND


#: What kernels save, by the format that they take: (dtype, m, n, k) -> microseconds. Of others nothing is known.
_SAVED = {N2M4.name: saved_microseconds}


def _estimate(layer: Layer) -> LayerDecision | None:
    """Return the decision to leave a layer to onnxruntime, None to take the sparse kernel."""
    if layer.reason is not None or layer.format is None:
        return None
    if not isa.fits(_LEAST_TIER, isa.cpu_features()):
        return LayerDecision(None, "kept dense: this CPU has portable kernels only, which onnxruntime's outrun")
    saved_by_format, rows = _SAVED.get(layer.format.name), _rows(layer)
    if (
        saved_by_format is None
        or layer.kind != "matmul"
        or layer.constant_side != "right"
        or rows is None
        or layer.form != "float"
    ):
        # Convolutions and integers save at every size that was measured.
        return None
    n, k = layer.shape
    saved = saved_by_format("f32", rows, n, k)
    if saved > -HAND_OVER_MICROSECONDS:
        return None
    return LayerDecision(
        None, f"kept dense: n = {n}, k = {k}, selection is estimated to cost {-saved:.0f} us more than it saves"
    )


def _rows(layer: Layer) -> int | None:
    """Return m of a matrix product, None where it is not known."""
    sizes = None if layer.x.shape is None else layer.x.shape.dims
    known = [size for size in sizes or () if isinstance(size, int)]
    return math.prod(known[:-1]) if sizes and len(known) == len(sizes) else None
