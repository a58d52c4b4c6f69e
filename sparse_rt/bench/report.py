"""What bench measured."""

from dataclasses import dataclass

from sparse_rt.bench.statistics import Ratio, Summary

__all__ = ["BenchReport", "LayerTiming"]


@dataclass(frozen=True)
class LayerTiming:
    """One sparse layer, alone, on the shapes that it has in the model."""

    name: str
    op_type: str
    kernel: str
    dense: float | None
    """Median seconds in onnxruntime, neighbours fused alike; None where the dense model has no such layer."""

    sparse: float
    """Median seconds of the sparse step."""

    ratio: float | None
    """dense / sparse."""

    share: float
    """sparse / the median of the whole sparse model."""

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
