"""Measure dense against sparse: engines in separate processes, alternating turns, statistics."""

from sparse_rt.bench.measure import bench
from sparse_rt.bench.report import BenchReport, LayerTiming
from sparse_rt.bench.statistics import Ratio, Summary

__all__ = ["BenchReport", "LayerTiming", "Ratio", "Summary", "bench"]
