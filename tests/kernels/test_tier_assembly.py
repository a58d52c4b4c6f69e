"""In a lane of tier_lanes.py: the machine code of a tier's kernels keeps to the tier's registers and instructions."""

import gc
import os
import re

import pytest
from numba.core import config
from numba.core.ccallback import CFunc
from numba.core.dispatcher import Dispatcher
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.jit.compilation import kernel_task
from sparse_rt_kernels.product import registry
from sparse_rt_kernels.tiled_u8s8.blocking import Shape
from sparse_rt_kernels.tiled_u8s8.task import product_task
from sparse_rt_kernels.tiled_u8s8.weight import STRATEGIES

from tests.kernels.tier_lanes import LANES, can_run

LANE = os.environ.get("SPARSE_RT_LANE", "")
pytestmark = pytest.mark.skipif(not LANE, reason="a lane of tests/kernels/tier_lanes.py")

VNNI = r"vpdpbusd|vpermb|vpmultishiftqb"
#: What must not occur in a tier's code: wider registers, registers and masks of AVX-512, its instructions.
EVEX = r"%zmm|%[xy]mm(1[6-9]|2\d|3[01])\b|%k[0-7]\b"
FORBIDDEN = {
    "generic": rf"%ymm|\bv[a-z]+\b.*%xmm|{EVEX}",
    "avx2": rf"{EVEX}|{VNNI}",
    "avx2vnni": EVEX,
    "avx512": VNNI,
}
#: What must occur: else the wrong code was read.
REQUIRED = {"generic": "%xmm", "avx2": "vpmaddwd.*%ymm", "avx2vnni": "vpdpbusd.*%ymm", "avx512": "vpmaddwd.*%zmm"}


def compile_unrun():
    """Compile the int8 kernels of AVX-VNNI without running them."""
    for strategy in range(len(STRATEGIES)):
        kernel_task(product_task(Shape(8, 1, strategy)))


def compiled_code():
    """The assembly of all our functions and tasks that this process has compiled, by name and signature."""
    found = gc.get_objects()
    functions = [each for each in found if isinstance(each, Dispatcher) and is_ours(each.py_func)]
    code = {
        f"{function.py_func.__module__}.{function.py_func.__qualname__}{signature}": code
        for function in functions
        for signature, code in function.inspect_asm().items()
    }
    tasks = [each for each in found if isinstance(each, CFunc) and is_ours(each._pyfunc)]
    return code | {f"{task.native_name} {number}": task._library.get_asm_str() for number, task in enumerate(tasks)}


def is_ours(function):
    return function.__module__.startswith("sparse_rt_kernels")


def test_the_lane_is_what_it_says():
    assert isa.tier() == LANE
    chosen = [registry.select(dtype, "n2m4").isa for dtype in ("u8s8", "f32")]
    assert LANE in chosen


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")
def test_no_wider_register_appears():
    features = next(features for tier, _, features, _ in LANES.values() if tier == LANE)
    if not can_run(features):
        if LANE != "avx2vnni":
            pytest.skip("this CPU cannot run the tier")
        compile_unrun()
    code = compiled_code()
    assert code
    wrong = {
        name: found[0].strip()
        for name, text in code.items()
        if (found := [line for line in text.splitlines() if re.search(FORBIDDEN[LANE], line)])
    }
    assert not wrong
    assert any(re.search(REQUIRED[LANE], text) for text in code.values())
