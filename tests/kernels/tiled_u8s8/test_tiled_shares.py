"""How the kernels of any vector width share a call among threads."""

import numpy as np
import pytest
from sparse_rt_kernels.product.geometry import MatmulShape
from sparse_rt_kernels.threads.launch import Launch
from sparse_rt_kernels.threads.pool import ThreadPool
from sparse_rt_kernels.tiled_f32 import kernel as floats
from sparse_rt_kernels.tiled_u8s8 import kernel as integers

from tests.kernels import conformance as conf

TILED = [
    kernel
    for kernel in conf.KERNELS
    if type(getattr(kernel.prepare_matmul, "__self__", None)).__module__ in {floats.__name__, integers.__name__}
]


@pytest.fixture
def many_tasks(monkeypatch):
    """Every task is worthwhile, however small."""
    monkeypatch.setattr(floats, "_TASK_PRODUCTS", 1)
    monkeypatch.setattr(integers, "worthwhile_threads", lambda rows, channels, steps, threads: threads)


def operands(kernel, m, n, k):
    rng = np.random.default_rng(m)
    x = conf.activations(rng, np.float32 if kernel.dtype == "f32" else np.uint8, (m, k))
    return x, conf.weight_for(kernel, rng, (n, k))


@pytest.mark.parametrize("kernel", TILED, ids=conf.by_name)
def test_small_calls_stay_on_one_thread(kernel):
    for m, n, k, is_split in ((1, 64, 64, False), (8, 32, 64, False), (512, 256, 512, True)):
        x, w = operands(kernel, m, n, k)
        epilogue, dtype = conf.sums_only(kernel, n)
        shape = MatmulShape.of(x, np.empty((m, n), dtype))
        launch = kernel.prepare_matmul(shape, conf.pack(kernel, w), epilogue, 4)
        assert isinstance(launch, Launch)
        assert (launch.width > 1) == is_split


@pytest.mark.parametrize("threads", [2, 3, 7])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 100, 24), (30, 50, 40), (97, 33, 16), (300, 18, 72)])
@pytest.mark.parametrize("kernel", TILED, ids=conf.by_name)
def test_shares_of_a_product_meet(kernel, m, n, k, threads, many_tasks):
    x, w = operands(kernel, m, n, k)
    got = conf.matmul(kernel, x, conf.pack(kernel, w), *conf.sums_only(kernel, n), ThreadPool(threads))
    conf.assert_sums(kernel, got, x, w)


@pytest.mark.parametrize("threads", [2, 5])
@pytest.mark.parametrize("shape", [(3, 8, 5, 6), (1, 12, 13, 11)])
@pytest.mark.parametrize("kernel", TILED, ids=conf.by_name)
def test_shares_of_a_convolution_meet(kernel, shape, threads, many_tasks):
    rng = np.random.default_rng(threads)
    x = conf.activations(rng, np.float32 if kernel.dtype == "f32" else np.int8, shape)
    w = conf.weight_for(kernel, rng, (37, shape[1], 3, 3))
    geometry = conf.geometry_of(x, w, pads=(1, 1, 1, 1))
    got = conf.conv(kernel, x, geometry, conf.pack(kernel, w), *conf.sums_only(kernel, 37), ThreadPool(threads))
    conf.assert_conv_sums(kernel, got, x, w, geometry)
