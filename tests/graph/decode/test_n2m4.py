"""The decoding body, run by stock onnxruntime, against the naive decoder."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from sparse_rt.graph.decode.functions import functions_for
from sparse_rt.graph.operators import COMPRESSED, MIN_OPSET
from tests import naive
from tests.graph import models

OPSETS = (MIN_OPSET, 12, 13, 14, 15, 16, 18, 21, 26)
DTYPES = (np.int8, np.uint8, np.float32)  # float16 is decoded as float32


def decoder(values, index, opset):
    functions = functions_for([COMPRESSED["MatMulV2Compress_MatMul"]], {"": opset})
    decode = next(ir.to_proto(function) for function in functions if function.name == "Decode")
    node = helper.make_node("Decode", ["v", "i"], ["y"], domain="sparse_rt")
    outputs = [models.info("y", [len(values), None], values.dtype)]
    return models.model(
        [node], [], outputs, {"v": values, "i": index}, opset, domains=["sparse_rt"], functions=[decode]
    )


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [4, 8, 12, 64])
def test_decode(opset, dtype, k):
    matrix = models.two_four(k, (5, k), dtype)
    values, index = naive.encode_matrix(matrix)
    (decoded,) = models.run(decoder(values, index, opset), {})
    np.testing.assert_array_equal(decoded, matrix)


@pytest.mark.parametrize("opset", OPSETS)
def test_every_index_nibble(opset):
    nibbles = [i0 | i1 << 2 for i0 in range(3) for i1 in range(3)]
    index = np.array([[a | b << 4 for b in nibbles] for a in nibbles], np.uint8)
    values = np.zeros((9, 36), np.int8)
    # Where both indexes name one element, the format has a 0 in one of the two values.
    values[:, 0::4], values[:, 2::4] = 7, 7
    np.testing.assert_array_equal(models.run(decoder(values, index, opset), {})[0], naive.decode_matrix(values, index))
    values = np.roll(values, 1, axis=1)
    np.testing.assert_array_equal(models.run(decoder(values, index, opset), {})[0], naive.decode_matrix(values, index))


@pytest.mark.parametrize("opset", [16, 21])
def test_decode_adds(opset):
    values = np.array([[3, 4], [3, 4]], np.int8)
    index = np.array([[0b0001], [0b0110]], np.uint8)  # (01, 00): element 1 twice; (10, 01): element 2 twice
    (decoded,) = models.run(decoder(values, index, opset), {})
    np.testing.assert_array_equal(decoded, [[0, 7, 0, 0], [0, 0, 7, 0]])


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_not_finite_values_stay_in_place(value):
    matrix = np.array([[0, value, 0, 1, 0, 2, 0, 0]], np.float32)
    (decoded,) = models.run(decoder(*naive.encode_matrix(matrix), 17), {})
    np.testing.assert_array_equal(decoded, matrix)
