"""Generated networks over images: in blocks, step by step, and in stock onnxruntime they give the same bits."""

import functools
import os
import sys
import threading
from collections import Counter

import numpy as np
import pytest
from numba.core import config
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_state
from sparse_rt_kernels.product import registry

from sparse_rt.plan.bind.segment import Segment
from sparse_rt.plan.steps.laid_out_step import LaidOutStep
from sparse_rt.stock import open_session
from tests.models.image_networks import PRODUCERS, Network, generate
from tests.models.onnx_models import names_of, sparse_session

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="segments are bound as machine code only")

#: Of onnxruntime; ours are among them.
REFUSALS = (onnxruntime_state.Fail, onnxruntime_state.InvalidArgument, onnxruntime_state.RuntimeException)
#: `python -m tests.models.test_image_networks FIRST LAST` runs any others.
SEEDS = range(120)


def one_by_one(session, feeds):
    """All values of a run in which each step runs on its own."""
    values = {**session.plan.constants, **feeds}
    for step in session.plan.steps:
        step.run(values, session.pool)
    return values


def laid_out(session):
    """The steps over blocks that were bound last."""
    bound = [step for part in session.plan.parts if isinstance(part, Segment) for step in part.current_steps()]
    return [step for step in bound if isinstance(step, LaidOutStep)]


def assert_equal(got, expected, where):
    assert got.dtype == expected.dtype, where
    assert got.shape == expected.shape, where
    assert np.array_equal(got, expected), f"{where}: {np.mean(got != expected):.2%} of the values differ"


def check_against_stock(session, proto, feeds):
    """Each step of ours, given what the reference has before it, writes the very bytes that the reference has after it.

    onnxruntime's own islands are not judged: its QLinearAdd and QLinearAveragePool round differently from ONNX.
    """
    names = [name for node in proto.graph.node if node.op_type == "QuantizeLinear" for name in node.output]
    values = {**session.plan.constants, **feeds}
    values |= dict(zip(names, open_session(proto, extra_outputs=names, optimise=False).run(names, feeds), strict=True))
    for step in session.plan.steps:
        if hasattr(step, "y") and all(name in values for name in (*step.inputs, step.y)):
            found = {name: values[name] for name in step.inputs}
            step.run(found, session.pool)
            assert_equal(found[step.y], values[step.y], step.describe())


def check_session(session, proto, feeds):
    """The plan as `run` uses it against its own steps; return those over blocks."""
    values = one_by_one(session, feeds)
    for name, got in zip(names_of(proto), session.run(None, feeds), strict=True):
        assert_equal(got, values[name], name)
    return laid_out(session)


@functools.cache
def check(seed):
    """One network of fixed sizes, on one to three threads; return its steps over blocks."""
    return check_network(generate(seed), 1 + seed % 3)


def check_network(net, threads):
    proto, feeds = net.model(), net.feeds()
    session = sparse_session(proto, threads)
    steps = check_session(session, proto, feeds)
    check_against_stock(session, proto, feeds)
    return steps


@pytest.mark.parametrize("first", SEEDS[::20])
def test_a_network(first):
    for seed in range(first, first + 20):
        check(seed)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("producer", PRODUCERS)
def test_a_padded_convolution_reads_a_sum(producer, dtype):
    """Of what a layer computes and of a residual from any kind of producer, of any zero point."""
    for seed, shape in enumerate([(64, 28, 28), (128, 14, 14), (32, 16, 40), (48, 7, 7), (16, 56, 4)]):
        net = Network(np.random.default_rng(seed), 1 + seed % 2, True, (np.dtype(dtype),))
        x = net.conv(net.input(shape), shape[0], same=True, size=1)
        own = net.conv(x, shape[0], same=True, size=1)
        operands = (own, net.partner(own, producer))
        net.conv(net.add(*(operands[::-1] if seed % 2 else operands)), 16, same=True, size=3)
        check_network(net, 1 + seed % 2)


@pytest.mark.parametrize("seed", [1000, 1001, 1002, 1003, 1004, 1005])
def test_shapes_change_between_runs_of_one_session(seed):
    """From one run to the next batch, rows and columns change, and with them which values lie in blocks."""
    net = generate(seed)
    proto = net.model(symbolic=True)
    session = sparse_session(proto, 2)
    for batch, larger in ((1, 0), (2, 0), (1, 7), (3, 1), (2, 4), (1, 0)):
        feeds = net.feeds(batch, larger)
        names = names_of(proto)
        try:
            open_session(proto, optimise=False).run(names, feeds)
        except REFUSALS:
            with pytest.raises(REFUSALS):
                session.run(None, feeds)
            continue
        check_session(session, proto, feeds)
        check_against_stock(session, proto, feeds)


@pytest.mark.parametrize("seed", [2000, 2001, 2002])
def test_threads_of_the_caller_share_a_session(seed):
    net = generate(seed)
    proto = net.model()
    session = sparse_session(proto, 2)
    jobs = [(feeds, one_by_one(session, feeds)) for feeds in (net.feeds() for _ in range(4))]
    failures = []

    def call(feeds, values):
        try:
            for _ in range(5):
                for name, got in zip(names_of(proto), session.run(None, feeds), strict=True):
                    assert_equal(got, values[name], name)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=call, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.skipif(
    registry.select("u8s8", "n2m4").prepare_blocked is None, reason="no kernel of this tier knows blocks"
)
def test_the_networks_reach_every_layout():
    """Else the tests above could pass for want of what they are about."""
    found = Counter(form for seed in SEEDS for form in forms(check(seed)))
    for x in ("planes", "tight", "border"):
        for y in ("planes", "tight", "border"):
            assert x == y == "planes" or found[f"conv {x} to {y}"] > 2, found
    for form in ("to blocks", "to blocks, border", "to planes", "add", "add, border"):
        assert found[form] > 2, found


def forms(steps):
    """What occurs in a plan: how layers read and write, and sums, around what border."""
    for step in steps:
        layouts = [*step.layouts, step.y_layout]
        border = ", border" if any(each is not None and each.has_border for each in layouts) else ""
        if step.op_type == "Layout":
            yield "to planes" if step.y_layout is None else f"to blocks{border}"
        elif step.op_type == "Add":
            yield f"add{border}"
        else:
            x, y = ("planes" if each is None else "border" if each.has_border else "tight" for each in layouts)
            yield f"conv {x} to {y}"


def main(first, last):
    """Check any seeds; print those that fail, and what the others reached."""
    found, failed = Counter(), 0
    for seed in range(first, last):
        try:
            found.update({"networks": 1, "in blocks": bool(steps := check(seed))})
            found.update(forms(steps))
        except Exception as error:
            failed += 1
            print(f"seed {seed}: {type(error).__name__}: {error}", flush=True)
    print("; ".join(f"{form}: {count}" for form, count in found.most_common()))
    return bool(failed)


if __name__ == "__main__":
    os.environ["SPARSE_RT_TUNING"] = "sparse"
    sys.exit(main(*map(int, sys.argv[1:3])))
