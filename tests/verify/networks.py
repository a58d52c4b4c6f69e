"""A network with all kinds of layouts, verified, and ways to make a kernel wrong."""

import dataclasses

import numpy as np
import pytest
from numba.core import config
from onnxruntime.quantization import QuantType

import sparse_rt as srt
from benchmarks.models.quantise import quantise_static
from tests.models.forced_measurements import has_dense_kernels
from tests.models.graphs.builder import Graph, Sizes

__all__ = ["SIZES", "layer_names", "needs_machine_code", "network", "one_value_off", "quantised", "spoiled", "verified"]

SIZES = Sizes(batch=1, channels=16, height=14, width=14)


needs_machine_code = pytest.mark.skipif(
    bool(config.DISABLE_JIT) or not has_dense_kernels(), reason="segments are bound as machine code only"
)


def network(form):
    """Convolutions over blocks and planes, a residual from before and one from a pool, a head of floats."""
    g, c = Graph(SIZES), SIZES.channels
    x = g.op("Relu", g.conv(g.image(), c, 32, 3))
    y = g.op("Relu", g.conv(x, 32, 32, 3))
    y = g.op("Relu", g.op("Add", g.conv(y, 32, 32), x))
    w = g.op("Relu", g.conv(y, 32, 32, 3))
    z = g.op("MaxPool", w, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    y = g.op("Add", g.op("Add", g.conv(z, 32, 32), z), g.conv(w, 32, 32, 3))
    y = g.op("Relu", g.conv(y, 32, 64, 3))
    y = g.op("Flatten", g.op("GlobalAveragePool", y), axis=1)
    return quantised(*g.finish(g.gemm(y, 64, 24)), form)


def quantised(model, feeds, form):
    if form == "float32":
        return model, feeds
    kind = QuantType.QInt8 if form == "int8" else QuantType.QUInt8
    return quantise_static(model, [feeds], activation_type=kind), feeds


def verified(form, make=network):
    model, feeds = make(form)
    return srt.verify(model, None, feeds, threads=1)


def layer_names(report):
    return [layer.name for layer in report.layers]


def one_value_off(matrix):
    """Return a weight with the largest value of each channel nearer to zero."""
    changed = matrix.copy()
    position = np.arange(len(changed)), np.abs(changed.astype(np.float32)).argmax(axis=1)
    step = 30 if changed.dtype.kind == "i" else np.abs(changed[position]) / 3
    changed[position] -= (np.sign(changed[position]) * step).astype(changed.dtype)
    return changed


def spoiled(weight):
    return dataclasses.replace(weight, values=one_value_off(weight.values))
