"""verify of plans that measurements decided: what runs is checked, and every sparse kernel that is left out."""

import pytest
from numba.core import config

from sparse_rt.plan.match import packing
from sparse_rt.tuning import tuner
from sparse_rt.tuning.store import Store
from tests.models.forced_measurements import CANDIDATES, has_dense_kernels
from tests.verify.networks import layer_names, needs_machine_code, spoiled, verified

pytestmark = pytest.mark.usefixtures("quiet_quantiser")

needs_dense = pytest.mark.skipif(
    bool(config.DISABLE_JIT) or not has_dense_kernels(), reason="no dense kernel of this tier"
)


@pytest.fixture
def tuned(monkeypatch, tmp_path):
    def make(candidate):
        monkeypatch.setenv("SPARSE_RT_TUNING", "on")
        monkeypatch.setattr(tuner, "measure", CANDIDATES[candidate]())
        monkeypatch.setattr(tuner, "Store", lambda: Store(tmp_path / "tuning"))

    return make


@needs_dense
@pytest.mark.parametrize("form", ["float32", "uint8"])
def test_a_tuned_plan_is_judged_with_every_sparse_kernel_beside_it(form, tuned):
    tuned("dense kernels")
    report = verified(form)
    assert report.equal, report.reason
    used = [layer for layer in report.layers if layer.in_use]
    # No dense kernel adds a residual as the sparse one does.
    assert sum("_dense_" in layer.kernel for layer in used) >= 5
    assert len({layer.name for layer in report.layers if "_n2m4_" in layer.kernel}) == 8
    assert [check.name for check in report.sparse_outputs] == [check.name for check in report.outputs]


@needs_dense
def test_a_dense_kernel_that_is_wrong_is_found_where_it_runs(tuned, monkeypatch):
    tuned("dense kernels")
    pack = packing.pack

    def wrong(kernel, weight):
        return pack(kernel, spoiled(weight) if kernel.format == "dense" else weight)

    monkeypatch.setattr(packing, "pack", wrong)
    report = verified("float32")
    assert report.exit_code == 1
    wrong = [layer for layer in report.layers if layer.status == "different"]
    assert wrong
    assert all("_dense_" in layer.kernel and layer.in_use for layer in wrong)


@needs_machine_code
def test_a_sparse_kernel_that_is_wrong_is_found_where_it_does_not_run(tuned, monkeypatch):
    tuned("all of it in onnxruntime")
    assert verified("float32").equal
    pack = packing.pack
    monkeypatch.setattr(packing, "pack", lambda kernel, weight: pack(kernel, spoiled(weight)))
    report = verified("float32")
    assert report.in_onnxruntime
    assert report.exit_code == 1
    assert not any(layer.in_use for layer in report.layers)
    assert report.first_difference == layer_names(report)[0]


@needs_machine_code
def test_a_model_that_onnxruntime_runs_says_so(tuned):
    tuned("all of it in onnxruntime")
    report = verified("float32")
    assert report.equal
    assert report.in_onnxruntime
    assert "onnxruntime runs the whole model here" in report.reason
    assert len(report.layers) == 8
