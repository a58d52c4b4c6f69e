"""Races whose times are made up, so that tuning decides as a test wants."""

import itertools

from sparse_rt_kernels.cpu import isa

from sparse_rt.tuning.decide import PLAN, TUNED
from sparse_rt.tuning.measure_layer import ONNXRUNTIME

__all__ = ["CANDIDATES", "FakeRace", "MixedRace", "has_dense_kernels", "no_race"]


class FakeRace:
    """Runs every candidate once and gives it the seconds that `times` has for its name; counts its calls."""

    def __init__(self, times=None, others=1e-3):
        self.times = times or {}
        self.others = others
        self.raced = []

    def __call__(self, candidates, seconds, turn, before_turn=None):
        for run in candidates.values():
            run()
        self.raced.append(sorted(candidates))
        return {name: next((t for key, t in self.times.items() if key in name), self.others) for name in candidates}

    @property
    def layers(self):
        return [names for names in self.raced if any("__" in name for name in names)]


def has_dense_kernels():
    """Whether this tier has dense kernels; a tier of portable kernels has none, and no native calls of layers."""
    return isa.supported_tiers(None)[0] != "generic"


class MixedRace:
    """Lets each layer that is raced go another way than the one before it, and the plan of all these ways win."""

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


def no_race(candidates, seconds, turn, before_turn=None):
    """What was kept is believed: nothing may be measured."""
    raise AssertionError(f"raced {sorted(candidates)}")


#: What makes each candidate win, of every layer or of whole plans.
CANDIDATES = {
    "sparse kernels": lambda: FakeRace({"n2m4": 1e-5, PLAN: 1e-5}),
    "dense kernels": lambda: FakeRace({"dense": 1e-5, TUNED: 1e-5}),
    "layers in onnxruntime": lambda: FakeRace(
        {TUNED: 1e-5, "twice": 1e-6, "apart": 2e-6, "alone": 1e-6, ONNXRUNTIME: 1e-4}
    ),
    "all of it in onnxruntime": lambda: FakeRace({ONNXRUNTIME: 5e-4}),
    "a way of its own for each layer": MixedRace,
}
