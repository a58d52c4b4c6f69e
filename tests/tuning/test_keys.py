"""What a measurement depends on: who shares one, and who measures again."""

import itertools
from types import SimpleNamespace

import numpy as np
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


def key(pattern, name, nbytes=16, density=0.5):
    """The key of a layer that differs from others by its weight's zeros alone."""
    layer = SimpleNamespace(
        op_type="MatMul",
        form="float",
        constant_side="right",
        shape=(8, 4),
        dtype=np.dtype(np.float32),
        attributes={},
        pattern=SimpleNamespace(name=pattern),
        format=SimpleNamespace(name=name, nbytes=lambda shape, dtype: nbytes),
        density=lambda: density,
    )
    epilogue = SimpleNamespace(low=-np.inf, high=np.inf)
    return keys.layer_key(layer, SimpleNamespace(inputs=(), y_dtype=np.dtype(np.float32), epilogue=epilogue), {})


def test_weights_of_other_patterns_and_formats_are_measured_apart():
    found = [key("2:4", "n2m4"), key("2:4", "nm"), key("v4-2:4", "nm"), key("16x4", "bsr", None), key("1:4", "nm")]
    assert all(a != b for a, b in itertools.combinations(found, 2))


def test_density_tells_weights_apart_where_the_stored_bytes_depend_on_it():
    assert key("2:4", "n2m4", density=0.5) == key("2:4", "n2m4", density=0.4)
    assert key("unstructured", "csr", None, 0.5) != key("unstructured", "csr", None, 0.4)
    assert key("unstructured", "csr", None, 0.5) == key("unstructured", "csr", None, 0.501)
