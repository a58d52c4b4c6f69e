"""Measurements whose times are made up, so that tuning decides as a test wants."""

import itertools

import numpy as np
import pytest
from numba.core import config
from sparse_rt_kernels.cpu import isa

from sparse_rt.tuning.decide import HOSTED, PLAN, TUNED
from sparse_rt.tuning.measure_layer import ONNXRUNTIME
from tests.models.onnx_models import normal, stock

__all__ = [
    "CANDIDATES",
    "FakeMeasure",
    "MixedMeasure",
    "check",
    "has_dense_kernels",
    "needs_dense",
    "needs_jit",
    "no_measure",
]


class FakeMeasure:
    """Runs every candidate once and gives it the seconds that `times` has for its name; counts its calls."""

    def __init__(self, times=None, others=1e-3):
        self.times = times or {}
        self.others = others
        self.measured = []

    def __call__(self, candidates, seconds, turn, before_turn=None):
        for run in candidates.values():
            run()
        self.measured.append(sorted(candidates))
        return {name: next((t for key, t in self.times.items() if key in name), self.others) for name in candidates}

    @property
    def layers(self):
        return [names for names in self.measured if any("__" in name for name in names)]


def has_dense_kernels():
    """Whether this tier has dense kernels; a tier of portable kernels has none, and no native calls of layers."""
    return isa.supported_tiers(None)[0] != "generic"


needs_jit = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is tuned without machine code")
needs_dense = pytest.mark.skipif(
    bool(config.DISABLE_JIT) or not has_dense_kernels(), reason="no dense kernel of this tier"
)


def check(session, proto, rng):
    """Hold a session of a model of x (3, 16) against stock onnxruntime."""
    x = normal(rng, 3, 16)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], stock(proto, {"x": x})[0], rtol=1e-4, atol=1e-5)


class MixedMeasure:
    """Lets each layer that is measured go another way than the one before it, and the plan of all these ways win."""

    WAYS = ("n2m4", "dense", ONNXRUNTIME)

    def __init__(self):
        self._ways = itertools.cycle(self.WAYS)

    def __call__(self, candidates, seconds, turn, before_turn=None):
        for run in candidates.values():
            run()
        if TUNED in candidates or PLAN in candidates:
            return {name: 1e-5 if name == TUNED else 1e-3 for name in candidates}
        wanted = next(self._ways) if len(candidates) > 1 and ONNXRUNTIME in candidates else ""
        return {name: 1e-5 if wanted and wanted in name else 1e-3 for name in candidates}


def no_measure(candidates, seconds, turn, before_turn=None):
    """What was kept is believed: nothing may be measured."""
    raise AssertionError(f"measured {sorted(candidates)}")


#: What makes each candidate win, of every layer or of whole plans.
CANDIDATES = {
    "sparse kernels": lambda: FakeMeasure({"n2m4": 1e-5, PLAN: 1e-5}),
    "dense kernels": lambda: FakeMeasure({"dense": 1e-5, TUNED: 1e-5}),
    "layers in onnxruntime": lambda: FakeMeasure(
        {TUNED: 1e-5, "twice": 1e-6, "apart": 2e-6, "alone": 1e-6, ONNXRUNTIME: 1e-4}
    ),
    "all of it in onnxruntime": lambda: FakeMeasure({ONNXRUNTIME: 5e-4}),
    "kernels inside onnxruntime": lambda: FakeMeasure({HOSTED: 1e-5, ONNXRUNTIME: 2e-3}),
    "a way of its own for each layer": MixedMeasure,
}
