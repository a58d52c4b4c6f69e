"""What bench measured."""

from dataclasses import dataclass

from sparse_rt.bench.statistics import Ratio, Summary

__all__ = ["BenchReport", "LayerTiming"]


@dataclass(frozen=True)
class LayerTiming:
    """One layer within runs of the whole model, as both engines' profiles have it."""

    name: str
    op_type: str
    kernel: str
    """What computes it in the sparse session: a kernel of ours, or ``"onnxruntime"``."""

    dense: float | None
    """Median seconds in onnxruntime, with what is fused there; None where the dense model has no such node."""

    sparse: float
    """Median seconds in sparse_rt, with what is fused here."""

    ratio: float | None
    """dense / sparse."""

    share: float
    """sparse / the sum over all nodes of the sparse model."""

    note: str = ""


@dataclass(frozen=True)
class BenchReport:
    """Dense onnxruntime against sparse_rt, each in a process of its own, in alternating turns."""

    model: str
    reference: str
    cpu: str
    threads: int
    engines: tuple[str, str]
    """Versions: dense, sparse."""

    shapes: dict[str, list[int]]
    """Of the feeds."""

    seconds: float
    """Wall time of all measurements."""

    dense: Summary
    sparse: Summary
    ratio: Ratio
    layers: tuple[LayerTiming, ...]
    """The last one stands for all operators that are no layers."""
