"""Convolutions and transposed ones with every attribute: the bits of stock onnxruntime, or refused as there.

`make convolutions` goes through the whole grid.
"""

import itertools
import os
import sys
from collections import Counter

import numpy as np
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_state

from sparse_rt import SparseRTError
from sparse_rt.plan.steps.convolution import Convolution
from sparse_rt.stock import open_session
from tests.models.convolution_cases import SIZES, TRANSPOSED, Axis, Case, every_case, random_case
from tests.models.onnx_models import sparse_session

#: Ours, and onnxruntime's for what fails while it runs.
ERRORS = (
    SparseRTError,
    onnxruntime_state.Fail,
    onnxruntime_state.InvalidArgument,
    onnxruntime_state.InvalidGraph,
    onnxruntime_state.NotImplemented,
    onnxruntime_state.RuntimeException,
)
SAMPLE = 160


def outcomes(case, all_sizes, static):
    """What a session and stock onnxruntime make of images of some sizes: pairs of outputs or errors."""
    for sizes in all_sizes:
        declared = sizes if static else [f"size{axis}" for axis in range(len(sizes))]
        proto, x = case.model(sizes, declared), case.feed(sizes)
        ours = attempt(lambda proto=proto: sparse_session(proto), x)
        theirs = attempt(lambda proto=proto: open_session(proto, optimise=False), x)
        yield sizes, ours, theirs


def attempt(make, x):
    try:
        return make().run(None, {"x": x})
    except ERRORS as error:
        return error


def check(case, all_sizes, static):
    """Compare; return how many sizes ran, and how many both refused."""
    found = Counter()
    for sizes, ours, theirs in outcomes(case, all_sizes, static):
        where = f"{case}, sizes {sizes}"
        if isinstance(theirs, Exception) or isinstance(ours, Exception):
            if not is_gap(case, sizes):
                assert isinstance(theirs, Exception) == isinstance(ours, Exception), f"{where}: {ours} / {theirs}"
            found["refused"] += 1
            continue
        found["run"] += 1
        for one, other in zip(ours, theirs, strict=True):
            assert (one.dtype, one.shape) == (other.dtype, other.shape), f"{where}: {one.shape} / {other.shape}"
            assert np.array_equal(one, other), f"{where}: {np.mean(one != other):.1%} differ"
    return found


def is_gap(case, sizes):
    """A transposed convolution over no pixels: onnxruntime gives rows of the bias alone, a session refuses them."""
    return case.form in TRANSPOSED and 0 in sizes


def sizes_of(rng, axes):
    least = 0 if rng.random() < 0.2 else 1
    return [tuple(int(size) for size in rng.integers(least, 10, axes)) for _ in range(3)]


def random_check(seed):
    rng = np.random.default_rng(seed)
    case = random_case(rng)
    return check(case, sizes_of(rng, len(case.axes)), rng.random() < 0.5 or has_output_shape(case))


def has_output_shape(case):
    return any(axis.output_shape is not None for axis in case.axes)


@pytest.mark.parametrize("first", range(0, SAMPLE, 40))
def test_a_sample_of_all(first):
    found = sum((random_check(seed) for seed in range(first, first + 40)), Counter())
    assert min(found["run"], found["refused"]) > 10


@pytest.mark.parametrize(
    ("case", "sizes", "reason"),
    [
        (Case("Conv", (Axis(3, 1, 2),), "SAME_UPPER"), (9,), "dilations with auto_pad"),
        (Case("QDQ Conv", (Axis(1, 4),), "SAME_UPPER"), (8,), "strides beyond the kernel"),
        (Case("Conv", (Axis(3, 1, 1, (-1, 2)),)), (9,), "pads are negative"),
        (Case("ConvTranspose", (Axis(2, 2, 1, (0, 0), 2),)), (5,), "output_padding"),
        (Case("ConvTranspose", (Axis(1, 3),), "SAME_LOWER"), (5,), "strides beyond the kernel"),
    ],
)
def test_what_onnxruntime_reads_in_its_own_way_stays_there(case, sizes, reason):
    check(case, [sizes], True)
    try:
        session = sparse_session(case.model(sizes, ["size"]))
    except ERRORS:
        return  # onnxruntime refuses the island when it is opened
    assert reason in session.explain()[0].reason


def test_the_usual_ones_run_sparse():
    for case in (
        Case("Conv", (Axis(1, 2), Axis(1, 2)), "SAME_UPPER"),
        Case("QLinearConv", (Axis(3, 2), Axis(3, 2)), "SAME_LOWER"),
        Case("ConvTranspose", (Axis(2, 2, 1, (0, 0), 1), Axis(4, 2)), "SAME_UPPER"),
        Case("ConvTranspose", (Axis(3, 2, 1, (0, 0), 1, 0),), "NOTSET"),
        Case("ConvInteger", (Axis(3, 1, 2, (2, 2)),)),
    ):
        report = sparse_session(case.model((8,) * len(case.axes), (8,) * len(case.axes))).explain()[0]
        assert report.kernel is not None, report


def main(seeds):
    """Go through the whole grid of one axis, and random layers of two."""
    found, failed = Counter(), 0
    whole = ((case, [(size,) for size in SIZES]) for case in every_case())
    jobs = itertools.chain(
        (lambda case=case, sizes=sizes: check(case, sizes, has_output_shape(case)) for case, sizes in whole),
        (lambda seed=seed: random_check(seed) for seed in range(seeds)),
    )
    for job in jobs:
        found["layers"] += 1
        try:
            found.update(job())
        except Exception as error:
            failed += 1
            print(f"{type(error).__name__}: {error}", flush=True)
    print("; ".join(f"{what}: {count}" for what, count in found.items()))
    return bool(failed)


if __name__ == "__main__":
    os.environ["SPARSE_RT_TUNING"] = "sparse"
    sys.exit(main(int(sys.argv[1])))


def test_convolution_geometry_is_cached_and_names_the_layer():
    conv = Convolution("c", 4, 8, (3, 3), (1, 1), (1, 1), (0, 0, 0, 0), "NOTSET")
    assert conv.geometry((1, 4, 5, 5)) is conv.geometry((1, 4, 5, 5))
    with pytest.raises(ValueError, match="layer 'c'"):
        conv.geometry((1, 5, 5, 5))
