"""What a measurement depends on: who shares one, and who measures again."""

import itertools

from sparse_rt_kernels.cpu import isa

from sparse_rt.tuning import keys
from sparse_rt.tuning.decide import PLAN
from tests.models.forced_measurements import FakeMeasure, needs_jit
from tests.models.onnx_models import info, model, node, sparse


@needs_jit
def test_equal_layers_are_measured_once(tuned, rng):
    names = "abcd"
    weights = {f"w{name}": sparse(rng, 16, 16).T.copy() for name in names}
    nodes = [node("MatMul", [before, f"w{after}"], [after]) for before, after in itertools.pairwise(["x", *names])]
    proto = model(nodes, [info("x", 3, 16)], [info("d", 3, 16)], weights)
    fake = FakeMeasure({"n2m4": 1e-5, PLAN: 1e-5})
    assert all(report.tried for report in tuned(fake, source=proto).explain())
    assert len(fake.layers) == 1
    # Another model with such a layer finds it measured.
    other = model(nodes[:1], [info("x", 3, 16)], [info("a", 3, 16)], {"wa": weights["wa"]})
    assert all(report.tried for report in tuned(fake, source=other).explain())
    assert len(fake.layers) == 1


@needs_jit
def test_other_versions_measure_again(tuned, monkeypatch):
    fake = FakeMeasure({"n2m4": 1e-5, PLAN: 1e-5})
    tuned(fake)
    before = len(fake.measured)
    for number, (owner, name, value) in enumerate(
        [
            (keys.ort, "__version__", "0.1"),
            (keys, "_planning", lambda: "x"),
            (keys.compilation, "cache_key", lambda: "y"),
        ],
        2,
    ):
        with monkeypatch.context() as changed:
            changed.setattr(owner, name, value)
            tuned(fake)
            assert len(fake.measured) == number * before
    tuned(fake)
    assert len(fake.measured) == 4 * before
    for other in [name for name in isa.TIERS if name != isa.tier() and isa.fits(name, isa.cpu_features())][:1]:
        tuned(fake, kernel_tier=other)
        assert len(fake.measured) > 4 * before
