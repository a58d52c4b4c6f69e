"""Convolutions of the int8 2:4 family that read or write blocks of 8 channels, and transposes between layouts."""

import itertools

import numpy as np
import pytest
from sparse_rt_kernels.between.elementwise import Quantisation, prepare_quantised_add, sum_of_bytes
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.n2m4_u8s8 import VNNI
from sparse_rt_kernels.n2m4_u8s8.blocking.nchwc8 import image_blocking
from sparse_rt_kernels.product.nchwc8 import NCHWc8
from sparse_rt_kernels.product.quantised_add import QuantisedAdd
from sparse_rt_kernels.product.registry import BlockedLayouts
from sparse_rt_kernels.product.u8s8.transpose import border_phase, prepare_to_blocks, prepare_to_planes
from sparse_rt_kernels.threads.launch import Launch
from sparse_rt_kernels.threads.pool import ThreadPool

from tests.kernels import conformance as conf

pytestmark = pytest.mark.skipif("avx512vnni" not in isa.supported_tiers(), reason="needs AVX-512 VNNI")

GUARD = 0xA5
SAME = {"pads": (1, 1, 1, 1), "pad_value": 5}
#: Input shape, output channels, kernel, the rest of the geometry.
CASES = {
    "1x1, 28 + 21 pixels": ((1, 16, 7, 7), 32, (1, 1), {}),
    "1x1, the last tile overlaps": ((2, 16, 5, 14), 48, (1, 1), {}),
    "1x1 of 8 columns": ((2, 8, 5, 8), 16, (1, 1), {}),
    "1x1 of many pixels": ((2, 64, 56, 56), 16, (1, 1), {}),
    "1x1 strided": ((2, 8, 28, 28), 16, (1, 1), {"strides": (2, 2)}),
    "3x3 of 7 columns": ((3, 16, 7, 7), 32, (3, 3), SAME),
    "3x3 of 16 columns": ((1, 8, 5, 16), 16, (3, 3), SAME),
    "3x3 strided": ((2, 24, 28, 28), 16, (3, 3), {"strides": (2, 2), **SAME}),
    "5x7 strided": ((1, 8, 33, 28), 16, (5, 7), {"pads": (2, 3, 2, 3), "strides": (3, 2), "pad_value": 100}),
    "3x3 strided, 8 columns": ((2, 16, 16, 16), 16, (3, 3), {"strides": (2, 2), **SAME}),
    "1x1 strided, 4 columns": ((1, 8, 31, 8), 32, (1, 1), {"strides": (1, 2)}),
    "3x3 dilated": ((1, 24, 32, 32), 16, (3, 3), {"dilations": (2, 2)}),
    "asymmetric": ((1, 16, 14, 15), 16, (3, 2), {"pads": (2, 0, 1, 0), "pad_value": 77}),
}
BORDERS = {"tight": (0, 0, 0, 0), "padded": (1, 1, 1, 1), "wide": (3, 4, 2, 3)}


def shift(dtype):
    return 128 if dtype == np.int8 else 0


def unsigned(planes):
    return (planes.astype(np.int32) + shift(planes.dtype)).astype(np.uint8)


def in_blocks(planes, border, pad, read=(0, 0, 0, 0)):
    """Planes as an array in blocks, and how they lie; all that is around `read` rows and columns is noise."""
    b, c, h, w = planes.shape
    blocks = NCHWc8(b, c, h, w, border, pad)
    top, left, _, right = border
    noise = np.random.default_rng(h * w)
    wide = noise.integers(0, 256, (b, c, blocks.rows, w + left + right), np.uint8)
    wide[:, :, top - read[0] : top + h + read[2], left - read[1] : left + w + read[3]] = pad
    wide[:, :, top : top + h, left : left + w] = unsigned(planes)
    octets = wide.reshape(b, c // 8, 8, *wide.shape[2:]).transpose(0, 1, 3, 4, 2).reshape(b, c // 8, -1)
    array = noise.integers(0, 256, blocks.array_shape, np.uint8)
    array[..., : octets.shape[2]] = octets
    return blocks, array


class Blocks:
    """An array in blocks, of noise; its border, and bytes between and around planes, are watched."""

    def __init__(self, blocks):
        self._blocks = blocks
        self._buffer = np.full(blocks.batch * blocks.image_bytes + 128, GUARD, np.uint8)
        self.array = self._buffer[64:-64].reshape(blocks.array_shape)
        used = blocks.rows * blocks.row_bytes
        self.array[..., :used] = np.random.default_rng(used).integers(0, 256, (*self.array.shape[:2], used))

    def planes(self, dtype):
        """What lies in the array, once all that lies around it has been looked at."""
        b = self._blocks
        top, left, bottom, right = b.border
        used = b.rows * b.row_bytes
        assert (np.concatenate([self._buffer[:64], self._buffer[-64:]]) == GUARD).all()
        assert (self.array[..., used:] == GUARD).all(), "bytes between planes were written"
        wide = self.array[..., :used].reshape(b.batch, b.channels // 8, b.rows, -1, 8)
        wide = wide.transpose(0, 1, 4, 2, 3).reshape(b.batch, b.channels, b.rows, -1)
        inner = wide[:, :, top : b.rows - bottom, left : wide.shape[3] - right]
        around = np.ones(wide.shape, bool)
        around[:, :, top : b.rows - bottom, left : wide.shape[3] - right] = False
        assert (wide[around] == b.pad).all(), "the border does not hold its byte"
        return (inner.astype(np.int32) - shift(dtype)).astype(dtype)


def check(case, dtype, x_border, y_border, pool=conf.ONE, plain=False):
    shape, n, kernel, options = CASES[case]
    options = dict(options)
    if dtype == np.int8 and "pad_value" in options:
        options["pad_value"] = -options["pad_value"]
    rng = np.random.default_rng(len(case))
    w = conf.weight_for(VNNI, rng, (n, shape[1], *kernel))
    x = conf.activations(rng, dtype, shape)
    geometry = conf.geometry_of(x, w, **options)
    zero = 7 - shift(dtype)
    epilogue = conf.integer_epilogue(rng, n, zero_point=zero, scale=4e-3)
    if plain:
        epilogue.bias[:] = 0
    packed, y_shape = conf.pack(VNNI, w), (shape[0], n, geometry.out_height, geometry.out_width)
    expected = conf.conv(VNNI, x, geometry, packed, epilogue, dtype)
    x_blocks = y_blocks = None
    if x_border is not None:
        border = tuple(max(pair) for pair in zip(x_border, geometry.pads, strict=True))
        x_blocks, x = in_blocks(x, border, geometry.pad_value + shift(dtype), geometry.pads)
    if y_border is not None:
        y_blocks = NCHWc8(*y_shape, y_border, 201)
    layouts = BlockedLayouts(x_blocks, y_blocks)
    types = (np.dtype(dtype), np.dtype(dtype))
    launch = VNNI.prepare_blocked(geometry, *types, packed, epilogue, pool.threads, layouts)
    assert launch is not None
    if y_blocks is None:
        out = conf.Guarded(y_shape, dtype)
        launch.run(x, out.array, pool)
        out.check()
        np.testing.assert_array_equal(out.array, expected)
        return
    out = Blocks(y_blocks)
    launch.run(x, out.array, pool)
    np.testing.assert_array_equal(out.planes(dtype), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("case", CASES)
def test_every_layout_gives_the_same_bytes(case, dtype):
    for x_border in (None, *BORDERS.values()):
        for y_border in (None, *BORDERS.values()):
            if x_border is not None or y_border is not None:
                check(case, dtype, x_border, y_border)


def test_the_cases_reach_every_variant():
    """Runs of 7 and 4 pixels, side by side or every second one: each ending is tried with all cases."""
    found = set()
    for shape, n, kernel, options in CASES.values():
        geometry = conf.ConvGeometry(*shape, n, kernel, **options)
        for x in (None, NCHWc8(*shape, geometry.pads, geometry.pad_value)):
            image = image_blocking(geometry, x, NCHWc8(shape[0], n, geometry.out_height, geometry.out_width))
            found.add((image.numbers.run, image.numbers.distance, image.numbers.is_staged))
    assert found == {(7, 8, True), (4, 8, True), (7, 8, False), (7, 16, False), (4, 8, False), (4, 16, False)}


@pytest.mark.parametrize("case", CASES)
def test_threads_share_the_work(case):
    check(case, np.uint8, BORDERS["padded"], BORDERS["wide"], ThreadPool(3))
    check(case, np.uint8, BORDERS["padded"], None, ThreadPool(3), plain=True)


def test_a_border_that_lacks_the_padding_is_refused():
    geometry = conf.ConvGeometry(1, 8, 14, 14, 16, (3, 3), pads=(1, 1, 1, 1))
    w = conf.weight_for(VNNI, np.random.default_rng(0), (16, 8, 3, 3))
    epilogue = conf.integer_epilogue(np.random.default_rng(0), 16)
    types = (np.dtype(np.uint8), np.dtype(np.uint8))
    for border, pad, fits in (((0, 0, 0, 0), 0, False), ((1, 1, 1, 1), 128, False), ((1, 1, 1, 2), 0, True)):
        layouts = BlockedLayouts(NCHWc8(1, 8, 14, 14, border, pad), None)
        launch = VNNI.prepare_blocked(geometry, *types, conf.pack(VNNI, w), epilogue, 1, layouts)
        assert (launch is not None) == fits


@pytest.mark.parametrize("dtypes", list(itertools.product([np.uint8, np.int8], repeat=3)))
def test_sums_in_blocks_are_those_of_planes(dtypes):
    rng = np.random.default_rng(8)
    shape, border = (2, 16, 7, 9), BORDERS["wide"]
    scales = ((0.02, 19), (0.031, 40), (0.027, 12))
    sides = [Quantisation(scale, zero - shift(dtype)) for (scale, zero), dtype in zip(scales, dtypes, strict=True)]
    types, addition = [np.dtype(dtype) for dtype in dtypes], QuantisedAdd(*sides, 0.0)
    a, b = (conf.activations(rng, dtype, shape) for dtype in dtypes[:2])
    expected = np.empty(shape, dtypes[2])
    prepare_quantised_add(a.size, *types, addition, 1).run(a, expected, conf.ONE, b)
    x, other = (in_blocks(planes, border, 3)[1] for planes in (a, b))
    blocks = NCHWc8(*shape, border, 77)
    launch = prepare_quantised_add(x.size, *types, addition, 1, in_blocks=True)
    launch = Launch([*launch.phases, border_phase(blocks, 1)])
    out = np.empty(blocks.array_shape, np.uint8)
    launch.run(x, out, conf.ONE, other)
    back = np.empty(shape, dtypes[2])
    prepare_to_planes(blocks, types[2], 1).run(out, back, conf.ONE)
    np.testing.assert_array_equal(back, expected)
    columns = shape[3] + border[1] + border[3]
    wide = out[..., : blocks.rows * blocks.row_bytes].reshape(2, 2, blocks.rows, columns, 8)
    wide[:, :, border[0] : -border[2], border[1] : -border[3]] = 77
    assert (wide == 77).all()
    padded = [
        Quantisation(each.scale, each.zero_point + shift(dtype)) for each, dtype in zip(sides, dtypes, strict=True)
    ]
    zeros = [each.zero_point for each in padded]
    assert sum_of_bytes(addition, tuple(types[:2]), types[2], *zeros[:2]) == zeros[2]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("shape", [(1, 8, 7, 7), (2, 24, 5, 13), (1, 16, 3, 130), (3, 64, 56, 56)])
def test_transposes(shape, border, dtype):
    planes = conf.activations(np.random.default_rng(1), dtype, shape)
    zero = 3
    blocks, array = in_blocks(planes, BORDERS[border], zero)
    for pool in (conf.ONE, ThreadPool(3)):
        out = Blocks(blocks)
        prepare_to_blocks(blocks, np.dtype(dtype), pool.threads).run(planes, out.array, pool)
        np.testing.assert_array_equal(out.planes(dtype), planes)
        back = conf.Guarded(shape, dtype)
        prepare_to_planes(blocks, np.dtype(dtype), pool.threads).run(array, back.array, pool)
        back.check()
        np.testing.assert_array_equal(back.array, planes)
