"""Measure dense against sparse: engines in separate processes, alternating turns, statistics."""

from sparse_rt import late_sympy  # noqa: F401  it imports onnx_ir
from sparse_rt.bench.measure import bench
from sparse_rt.bench.report import BenchReport, LayerTiming
from sparse_rt.bench.statistics import Ratio, Summary

__all__ = ["BenchReport", "LayerTiming", "Ratio", "Summary", "bench"]
