"""Values in blocks of 8 channels: which there are, and the same bytes as without them."""

import numpy as np
import pytest
from numba.core import config
from onnxruntime.quantization import QuantType
from sparse_rt_kernels.product import registry

from benchmarks.models.quantise import quantise_static
from sparse_rt.plan.bind import segment
from tests.models.onnx_models import info, model, node, normal, sparse, sparse_session

pytestmark = [
    pytest.mark.skipif(bool(config.DISABLE_JIT), reason="segments are bound as machine code only"),
    pytest.mark.skipif(
        registry.select("u8s8", "n2m4").prepare_blocked is None, reason="no kernel of this tier knows blocks"
    ),
]


class Net:
    """A network in the making: convolutions with 2:4 weights, and what lies between."""

    def __init__(self, rng):
        self._rng = rng
        self.nodes, self.weights = [], {}

    def conv(self, x, y, channels, kernel=1, relu=True, strides=1):
        n, c = channels
        self.weights[f"w_{y}"] = sparse(self._rng, n, c, kernel, kernel)
        self.weights[f"b_{y}"] = normal(self._rng, n)
        pads, out = [kernel // 2] * 4, f"{y}_sum" if relu else y
        options = {"name": y, "pads": pads, "strides": [strides] * 2}
        self.nodes.append(node("Conv", [x, f"w_{y}", f"b_{y}"], [out], **options))
        if relu:
            self.nodes.append(node("Relu", [out], [y]))

    def add(self, a, b, y):
        self.nodes += [node("Add", [a, b], [f"{y}_sum"], name=y), node("Relu", [f"{y}_sum"], [y])]

    def bottleneck(self, x, y, channels, middle, swapped=False):
        self.conv(x, f"{y}_1", (middle, channels))
        self.conv(f"{y}_1", f"{y}_2", (middle, middle), 3)
        self.conv(f"{y}_2", f"{y}_3", (channels, middle), relu=False)
        self.add(*((x, f"{y}_3") if swapped else (f"{y}_3", x)), y)

    def quantised(self, batch, outputs, shape, signed=False):
        names = [info(name, None, None, None, None) for name in outputs]
        proto = model(self.nodes, [info("x", batch, *shape)], names, self.weights)
        feeds = [{"x": normal(self._rng, 2, *shape)} for _ in range(2)]
        return quantise_static(proto, feeds, activation_type=QuantType.QInt8 if signed else QuantType.QUInt8), feeds[0]


def residual_net(rng, swapped=False):
    net = Net(rng)
    net.conv("x", "first", (32, 16))
    net.conv("first", "shortcut", (64, 32), relu=False)
    net.conv("first", "a_1", (16, 32))
    net.conv("a_1", "a_2", (16, 16), 3)
    net.conv("a_2", "a_3", (64, 16), relu=False)
    net.add(*(("shortcut", "a_3") if swapped else ("a_3", "shortcut")), "a")
    net.bottleneck("a", "b", 64, 16, swapped)
    net.nodes.append(node("MaxPool", ["b"], ["pooled"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]))
    net.bottleneck("pooled", "c", 64, 32)
    net.conv("c", "d", (64, 64), 3, strides=2)
    return net


def check(proto, feeds, monkeypatch, threads=1):
    """Run with layouts and without; return the lines of the plan that is laid out."""
    session = sparse_session(proto, threads)
    got = session.run(None, feeds)
    monkeypatch.setattr(segment, "laid_out", lambda steps, *_: tuple(steps))
    plain = sparse_session(proto, threads)
    for one, other in zip(got, plain.run(None, feeds), strict=True):
        np.testing.assert_array_equal(one, other)
    assert "/NCHWc8" not in plain.plan.describe()
    return session.plan.describe().splitlines()


def of(lines, name):
    return next(line for line in lines if f"  {name}  " in line)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("batch", [2, "batch"])
def test_residual_network(batch, signed, swapped, threads, monkeypatch):
    proto, feeds = residual_net(np.random.default_rng(3), swapped).quantised(batch, ["c", "d"], (16, 28, 28), signed)
    lines = check(proto, feeds, monkeypatch, threads)
    sums = [line for line in lines if " Add " in line]
    assert [line.count("/NCHWc8") for line in sums] == [3, 3, 3]
    assert of(lines, "b_3").count("/NCHWc8") == 2
    assert of(lines, "a_1").count("/NCHWc8") == 2
    # MaxPool reads planes and writes planes, of which two layers and an Add want blocks; so does the caller.
    assert sum("Layout" in line for line in lines) >= 3


def test_rows_that_fill_no_tile_stay_planes(monkeypatch):
    """A 3x3 kernel over rows of 9 pixels; what comes before and after is turned only where that helps."""
    net = Net(np.random.default_rng(4))
    net.conv("x", "a", (16, 16))
    net.conv("a", "b", (16, 16), 3)
    net.conv("b", "c", (16, 16))
    lines = check(*net.quantised(2, ["c"], (16, 9, 9)), monkeypatch)
    assert not [line for line in lines if "/NCHWc8" in line]


def test_channels_that_fill_no_block_stay_planes(monkeypatch):
    net = Net(np.random.default_rng(5))
    net.conv("x", "a", (24, 16))
    net.conv("a", "b", (16, 24))
    net.conv("b", "c", (20, 16))
    lines = check(*net.quantised(2, ["c"], (16, 14, 14)), monkeypatch)
    assert not [line for line in lines if "/NCHWc8" in line]


@pytest.mark.parametrize("signed", [False, True])
def test_a_basic_block_keeps_a_border_around_what_it_adds(signed, monkeypatch):
    net = Net(np.random.default_rng(6))
    net.conv("x", "a", (16, 16), 3)
    net.conv("a", "b", (16, 16), 3)
    net.conv("b", "c", (16, 16), 3, relu=False)
    net.add("c", "a", "d")
    net.conv("d", "e", (16, 16), 3)
    lines = check(*net.quantised(2, ["e"], (16, 14, 14), signed), monkeypatch)
    assert of(lines, "c").count("/NCHWc8") == 2
    assert of(lines, "e").count("/NCHWc8") == 1
