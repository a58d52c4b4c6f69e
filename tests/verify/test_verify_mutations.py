"""verify can fail: plans in which one thing is deliberately wrong are not equal, and the layer is named.

Each mutation is one that the code of a plan could contain. Those of the running plan leave every step as it is when it
runs alone, so the layers pass; those of a kernel are wrong either way.
"""

import dataclasses

import numpy as np
import pytest
from numba.core import config
from sparse_rt_kernels.product import registry

import sparse_rt as srt
from sparse_rt.plan import build
from sparse_rt.plan.bind import layout, placement
from sparse_rt.plan.match import choose, packing
from sparse_rt.plan.match.operators.add import AddStep
from sparse_rt.plan.steps.laid_out_step import LaidOutStep
from sparse_rt.plan.steps.operator_step import OperatorStep
from sparse_rt.plan.steps.sparse_step import SparseStep
from tests.models.forced_measurements import has_dense_kernels
from tests.models.graphs.builder import Graph
from tests.verify.networks import SIZES, layer_names, needs_machine_code, network, quantised, spoiled, verified

pytestmark = pytest.mark.usefixtures("quiet_quantiser")

needs_blocks = pytest.mark.skipif(
    bool(config.DISABLE_JIT) or registry.select("u8s8", "n2m4").prepare_blocked is None,
    reason="no kernel of this tier knows blocks",
)


def two_readers(form):
    """Planes that two padded convolutions read, so that they are turned into blocks once for both."""
    g, c = Graph(SIZES), SIZES.channels
    x = g.image()
    return quantised(*g.finish(g.op("Add", g.conv(x, c, 32, 3), g.conv(x, c, 32, 3))), form)


@pytest.mark.parametrize("form", ["float32", "uint8", "int8"])
def test_the_network_itself_is_equal(form):
    report = verified(form)
    assert report.equal, report.reason
    assert len(report.layers) == 8
    if not config.DISABLE_JIT and has_dense_kernels():
        assert len(report.steps) > len(report.layers)
        assert report.operators
        assert all(check.status == "equal" for check in report.operators)
    assert not report.sparse_outputs
    assert not report.in_onnxruntime


def assert_found_as_it_runs(report, names=None):
    assert all(layer.status == "equal" for layer in report.layers)
    assert (report.status, report.exit_code) == ("different", 1)
    wrong = {check.name for check in report.steps if check.status == "different"}
    assert report.first_difference in wrong
    assert "as the plan runs it" in report.reason
    if names is not None:
        assert wrong <= names


@needs_blocks
@pytest.mark.parametrize("form", ["uint8", "int8"])
def test_a_wrong_border_of_a_turned_value(form, monkeypatch):
    turn = layout.prepare_to_blocks

    def with_another_border(blocks, *others):
        return turn(dataclasses.replace(blocks, pad=blocks.pad ^ 3), *others)

    monkeypatch.setattr(layout, "prepare_to_blocks", with_another_border)
    report = verified(form, two_readers)
    wrong = [(check.name, check.value) for check in report.steps if check.status == "different"]
    assert wrong[0][0] == "planes to NCHWc8"
    assert wrong[0][1].endswith("border")
    assert {name for name, _ in wrong[1:]} == set(layer_names(report))
    assert_found_as_it_runs(report)


@needs_blocks
@pytest.mark.parametrize("form", ["uint8", "int8"])
def test_a_value_that_lies_elsewhere_than_its_reader_thinks(form, monkeypatch):
    """Turned into planes from one row further down."""
    turn = layout.prepare_to_planes

    def from_below(blocks, dtype, threads):
        top, left, bottom, right = blocks.border
        return turn(dataclasses.replace(blocks, border=(top + 1, left, bottom, right)), dtype, threads)

    monkeypatch.setattr(layout, "prepare_to_planes", from_below)
    assert_found_as_it_runs(verified(form))


def kernel_with(monkeypatch, **changes):
    """Have the int8 kernel of this CPU with some of its functions changed."""
    kernel = registry.select("u8s8", "n2m4")
    changed = dataclasses.replace(kernel, **{name: change(getattr(kernel, name)) for name, change in changes.items()})
    monkeypatch.setitem(registry._kernels, kernel.name, changed)


@needs_blocks
@pytest.mark.parametrize("form", ["uint8", "int8"])
def test_one_step_off_in_one_channel_over_blocks(form, monkeypatch):
    """A quantisation step is less than the outputs' tolerance would show."""

    def one_off(prepare):
        def prepared(geometry, x_dtype, out_dtype, packed, epilogue, threads, layouts):
            if packed.n == 64:
                bias = epilogue.bias.copy()
                bias[5] += 1  # in units of y
                epilogue = dataclasses.replace(epilogue, bias=bias)
            return prepare(geometry, x_dtype, out_dtype, packed, epilogue, threads, layouts)

        return prepared

    kernel_with(monkeypatch, prepare_blocked=one_off)
    report = verified(form)
    assert_found_as_it_runs(report, {layer_names(report)[6]})
    (wrong,) = {check for check in report.steps if check.status == "different"}
    assert wrong.comparison.max_error == 1
    assert wrong.comparison.differing <= 14 * 14


@needs_blocks
@pytest.mark.parametrize("form", ["uint8", "int8"])
def test_a_residual_that_is_left_out_over_blocks(form, monkeypatch):
    sums = layout.find_sums

    def of_nothing(*arguments):
        found = sums(*arguments)
        return {name: _without_residual(one) for name, one in found.items()}

    monkeypatch.setattr(layout, "find_sums", of_nothing)
    assert_found_as_it_runs(verified(form))


def _without_residual(one):
    """Return a sum to which what is added is next to nothing."""
    side = "b" if one.own == one.step.inputs[0] else "a"
    quiet = dataclasses.replace(getattr(one.addition, side), scale=1e-9)
    return one._replace(addition=dataclasses.replace(one.addition, **{side: quiet}))


@needs_machine_code
@pytest.mark.parametrize("form", ["float32", "uint8"])
def test_values_that_lie_on_top_of_each_other(form, monkeypatch):
    place = placement.place

    def all_at_the_beginning(lifetimes):
        _, nbytes = place(lifetimes)
        return (0,) * len(lifetimes), nbytes

    monkeypatch.setattr(placement, "place", all_at_the_beginning)
    assert_found_as_it_runs(verified(form))


@needs_machine_code
@pytest.mark.parametrize("form", ["float32", "uint8"])
def test_a_launch_that_reads_another_value(form, monkeypatch):
    """The last step that adds two values of one form gets the first of them twice."""
    table = placement.Placement._table

    def crossed(self, kinds):
        holders, entries = table(self, kinds)
        launching = [step for step, kind in zip(self._steps, kinds, strict=True) if kind == placement.LAUNCHES]
        for step, (x, _, _) in reversed(list(zip(launching, entries.tolist(), strict=True))):
            if isinstance(step, SparseStep | LaidOutStep | AddStep) and len(step.inputs) == 2:
                holders[x + 1] = holders[x]
                return holders, entries
        raise LookupError("no step that adds")

    monkeypatch.setattr(placement.Placement, "_table", crossed)
    assert_found_as_it_runs(verified(form))


@pytest.mark.parametrize("form", ["float32", "uint8", "int8"])
@pytest.mark.parametrize("number", [0, 3, 7])
def test_a_kernel_that_packs_one_value_wrongly(form, number, monkeypatch):
    pack, packed = packing.pack, []

    def wrong(kernel, weight):
        packed.append(weight.shape)
        return pack(kernel, spoiled(weight) if len(packed) == number + 1 else weight)

    monkeypatch.setattr(packing, "pack", wrong)
    report = verified(form)
    assert report.exit_code == 1
    assert report.first_difference == layer_names(report)[number]
    assert [layer.status for layer in report.layers].count("different") == 1


@pytest.mark.parametrize("form", ["float32", "uint8"])
def test_a_convolution_that_pads_with_the_wrong_number(form, monkeypatch):
    of = choose.Convolution.of

    def wrong(layer, pad_value=0):
        found = of(layer, pad_value)
        kernel = found.kernel
        shifted = (0, 0, 2, 2) if kernel == (3, 3) else found.pads
        return dataclasses.replace(found, pads=shifted)

    monkeypatch.setattr(choose.Convolution, "of", staticmethod(wrong))
    report = verified(form)
    assert report.exit_code == 1
    assert report.first_difference == layer_names(report)[0]


def test_a_residual_that_a_layer_of_floats_leaves_out(monkeypatch):
    absorb = build.absorb_additions

    def without(steps, shapes, outputs):
        return tuple(
            dataclasses.replace(step, residual=None, apart=()) if getattr(step, "residual", None) else step
            for step in absorb(steps, shapes, outputs)
        )

    monkeypatch.setattr(build, "absorb_additions", without)
    plan = srt.InferenceSession(network("float32")[0]).plan
    if " + " in plan.describe():
        pytest.fail("the mutation was not applied")
    report = verified("float32")
    if not any(type(step).__name__ == "AddStep" for step in plan.steps):
        assert report.exit_code == 1
        assert report.first_difference in layer_names(report)


@needs_machine_code
@pytest.mark.parametrize(
    ("form", "op_type"),
    [
        *[(form, op_type) for form in ("uint8", "int8") for op_type in ("Add", "MaxPool", "GlobalAveragePool")],
        ("uint8", "QuantizeLinear"),
        ("float32", "MaxPool"),
        ("float32", "GlobalAveragePool"),
    ],
)
def test_an_operator_that_is_one_step_off_in_one_place(form, op_type, monkeypatch):
    """Or by a hundredth, for floats; as it runs and alone."""
    run = OperatorStep.run

    def one_off(self, values, pool, run_options=None):
        run(self, values, pool, run_options)
        if self.op_type == op_type:
            y = values[self.y].reshape(-1)
            is_float = y.dtype.kind == "f"
            y[17] = y[17] + np.abs(y).max() / 100 if is_float else int(y[17]) + (1 if y[17] < 100 else -1)

    def never(self, shapes, threads):
        return bind(self, shapes, threads) if self.op_type != op_type else None

    bind = OperatorStep.bind
    monkeypatch.setattr(OperatorStep, "run", one_off)
    monkeypatch.setattr(OperatorStep, "bind", never)
    report = verified(form)
    assert report.exit_code == 1
    wrong = [check for check in report.operators if check.status == "different"]
    assert {check.op_type for check in wrong} == {op_type}
    assert report.first_difference == wrong[0].name
    assert all(check.comparison.differing == 1 for check in wrong)
