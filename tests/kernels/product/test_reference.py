"""The readable definitions agree with naive arithmetic."""

import numpy as np
import pytest
from sparse_rt_kernels.product import reference
from sparse_rt_kernels.product.epilogue import FloatEpilogue

from tests import naive
from tests.kernels import conformance as conf


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("out_dtype", [np.int32, np.float32, np.uint8, np.int8])
def test_integer_matmul(dtype, out_dtype):
    rng = np.random.default_rng(0)
    w = naive.random_weight(rng, (7, 20))
    x = conf.activations(rng, dtype, (5, 18))
    epilogue = conf.integer_epilogue(rng, 7, -1.0, 2.0, 3 if np.dtype(out_dtype).itemsize == 1 else 0)
    got = reference.matmul(x, *naive.encode_matrix(w), epilogue, out_dtype)
    assert got.dtype == out_dtype
    np.testing.assert_array_equal(got, conf.expected_integers(naive.matmul(x, w[:, :18]), epilogue, out_dtype))


def test_float_matmul():
    rng = np.random.default_rng(1)
    w = naive.random_weight(rng, (6, 16), np.float32)
    x = rng.standard_normal((4, 16), np.float32)
    bias = rng.standard_normal(6).astype(np.float32)
    got = reference.matmul(x, *naive.encode_matrix(w), FloatEpilogue(bias, -1.0, 1.0), np.float32)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, np.clip(naive.matmul(x, w) + bias, -1, 1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strides": (2, 1), "pads": (1, 2, 0, 1), "pad_value": 7},
        {"dilations": (1, 2), "pads": (-1, 1, 1, 1), "pad_value": 2},
        {"input_stride": (2, 2), "pads": (1, 1, 1, 1), "pad_value": 3},
    ],
)
def test_convolution(options):
    rng = np.random.default_rng(2)
    w = naive.random_weight(rng, (4, 6, 3, 2))
    x = conf.activations(rng, np.uint8, (2, 6, 6, 5))
    geometry = conf.geometry_of(x, w, **options)
    epilogue = conf.integer_epilogue(rng, 4)
    got = reference.conv(x, geometry, *naive.encode_matrix(naive.weight_matrix(w)), epilogue, np.int32)
    acc = conf.channels_last(conf.naive_conv(x, w, geometry))
    np.testing.assert_array_equal(got, conf.channels_first(conf.expected_integers(acc, epilogue, np.int32)))
