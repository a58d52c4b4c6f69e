"""What only the int8 2:4 family promises: its machine code, its blocking, its packed layout."""

import re

import numpy as np
import pytest
from numba import njit
from numba.core import config
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.n2m4_u8s8 import VNNI, weight
from sparse_rt_kernels.n2m4_u8s8.tile.rows import Expanded, Octets, expand_index, tile
from sparse_rt_kernels.n2m4_u8s8.tile.small_m import Packed, Panel, small_tile
from sparse_rt_kernels.product.epilogue import IntegerEpilogue
from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.product.u8s8.staging import staging_of
from sparse_rt_kernels.product.weight import Indexed

from tests import naive
from tests.kernels import conformance as conf

needs_vnni = pytest.mark.skipif("avx512vnni" not in isa.supported_tiers(), reason="needs AVX-512 VNNI")


# --- machine code -----------------------------------------------------------------------------------------------------


def assembly(is_small):
    """The lines of a compiled tile: of 24 rows, or of one whose indexes are expanded on the way."""
    if is_small:

        @njit
        def run(panel, step, values, index, steps, sums, resume):
            return small_tile(1, 4, 1, Panel(panel, step), Packed(values, index, steps, 0, 0), sums, resume)
    else:

        @njit
        def run(panel, stride, values, controls, steps, sums, resume):
            return tile(24, Octets(panel, stride, 8), Expanded(values, controls, steps), sums, resume)

    run.compile("intp(intp, intp, intp, intp, intp, intp, intp)")
    return next(iter(run.inspect_asm().values())).splitlines()


def loop_with_most(lines, instruction):
    """The lines between a label and the jump back to it that hold the most of `instruction`."""
    best = []
    labels = {line.split(":")[0]: at for at, line in enumerate(lines) if re.match(r"^\.?\w+:", line)}
    for at, line in enumerate(lines):
        jump = re.match(r"\s+j\w+\s+(\.\w+)", line)
        if jump and labels.get(jump[1], at) < at:
            body = lines[labels[jump[1]] : at]
            if sum(instruction in one for one in body) > sum(instruction in one for one in best):
                best = body
    return best


@needs_vnni
def test_the_tile_keeps_its_accumulators_in_registers():
    body = loop_with_most(assembly(False), "vpdpbusd")
    assert sum("vpdpbusd" in line for line in body) == 24
    assert sum("vpshufb" in line for line in body) == 24
    assert sum("vpbroadcastq" in line for line in body) == 24
    assert not [line for line in body if "zmm" in line and "rsp" in line], "an accumulator is spilled"


@needs_vnni
def test_the_tile_of_one_row_expands_indexes_in_four_chains():
    body = loop_with_most(assembly(True), "vpdpbusd")
    dots = [line for line in body if "vpdpbusd" in line]
    assert len({line.split(",")[-1] for line in dots}) == 4
    assert sum("vpmultishiftqb" in line for line in body) == len(dots)


@needs_vnni
@pytest.mark.parametrize("steps", [1, 3, 4, 9])
def test_expanded_controls(steps):
    rng = np.random.default_rng(steps)
    indexes = rng.integers(0, 3, (steps, 16, 4))
    packed = (indexes << np.arange(0, 8, 2)).sum(axis=2).astype(np.uint8)
    memory = np.full(64 * (steps + 3), 0xA5, np.uint8)
    start = -memory.ctypes.data % 64
    source = np.full(16 * steps + 16, 0, np.uint8)
    aligned = -source.ctypes.data % 16
    source[aligned : aligned + packed.size] = packed.ravel()

    @njit
    def run(index, steps, controls):
        return expand_index(index, steps, controls)

    run(source.ctypes.data + aligned, steps, memory.ctypes.data + start)
    got = memory[start : start + 64 * steps].reshape(steps, 16, 4)
    np.testing.assert_array_equal(got, indexes + np.array([0, 1, 4, 5]))
    assert (memory[start + 64 * steps :] == 0xA5).all()


# --- packing ----------------------------------------------------------------------------------------------------------


def test_packed_layout():
    w = naive.random_weight(np.random.default_rng(0), (20, 12))
    values, index = naive.encode_matrix(w)
    packed = weight.pack("name", Indexed(values, index))
    assert packed.panels.values.shape == (2, 2, 16, 4)
    assert packed.panels.indexes.shape == (2, 2, 16)
    for channel in range(32):
        for step in range(2):
            block, lane = divmod(channel, 16)
            stored = packed.panels.values[block, step, lane]
            expected = np.zeros(4, np.int8)
            if channel < 20:
                part = values[channel, 4 * step : 4 * step + 4]
                expected[: len(part)] = part
                assert packed.panels.indexes[block, step, lane] == index[channel, step]
            np.testing.assert_array_equal(stored, expected)
    np.testing.assert_array_equal(packed.panels.row_sums, w.sum(axis=1, dtype=np.int32))
    assert packed.panels.values.ctypes.data % 64 == 0
    assert packed.panels.indexes.ctypes.data % 16 == 0


@needs_vnni
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("k", [64, 68, 480])
@pytest.mark.parametrize("stride", [480, 500, 1024, 2048, 4096, -512, 0])
def test_rows_are_read_in_place_or_packed(stride, k, dtype):
    """uint8 rows of whole steps are multiplied where they are, unless their lines share too few cache sets."""
    rng = np.random.default_rng(k)
    memory = conf.activations(rng, dtype, (61 * 4096,))
    start = memory[-k:] if stride < 0 else memory
    x = np.lib.stride_tricks.as_strided(start, (59, k), (stride, 1))
    w = conf.weight_for(VNNI, rng, (35, k))
    conf.assert_sums(VNNI, conf.matmul(VNNI, x, conf.pack(VNNI, w), *conf.sums_only(VNNI, 35)), x, w)


# --- staging ----------------------------------------------------------------------------------------------------------


def test_offsets_ascend_and_name_each_element():
    geometry = ConvGeometry(1, 6, 9, 8, 1, (3, 2), (1, 1), (2, 3), (1, 0, 1, 2))
    staging = staging_of(geometry)
    elements = np.arange(staging.image_bytes).reshape(staging.padded_height, staging.padded_width, staging.depth)
    expected = [elements[2 * r, 3 * s, c] for r in range(3) for s in range(2) for c in (0, 4)]
    np.testing.assert_array_equal(staging.words, expected)
    assert (np.diff(staging.words) >= 4).all()


def test_odd_reductions_are_padded_to_whole_steps():
    assert len(staging_of(ConvGeometry(1, 3, 5, 5, 1, (3, 3))).words) == 10


@needs_vnni
@pytest.mark.parametrize("integer", [int, np.int8, np.int64])
def test_integers_of_any_width_reuse_the_compiled_kernel(integer):
    from sparse_rt_kernels.n2m4_u8s8.task.block import multiply_block

    if config.DISABLE_JIT:
        pytest.skip("nothing is compiled")
    rng = np.random.default_rng(0)
    w = conf.weight_for(VNNI, rng, (4, 4, 1, 1))
    x = conf.activations(rng, np.int8, (1, 4, 3, 3))
    geometry = conf.geometry_of(x, w, pads=(1, 1, 1, 1), pad_value=integer(-5))
    epilogue = conf.integer_epilogue(rng, 4, zero_point=integer(-3))
    got = conf.conv(VNNI, x, geometry, conf.pack(VNNI, w), epilogue, np.int8)
    acc = conf.channels_last(conf.naive_conv(x, w, geometry))
    np.testing.assert_array_equal(got, conf.channels_first(conf.expected_integers(acc, epilogue, np.int8)))
    # None if the task that holds it came from the disk cache.
    assert len(multiply_block.dispatcher.signatures) <= 1


# --- requantised in registers -----------------------------------------------------------------------------------------


@needs_vnni
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize(
    ("scale", "bias", "low", "high"),
    [
        (1e-3, 0.0, -np.inf, np.inf),
        (1e-3, 0.0, 0.0, 6.0),
        (-1e-3, 0.0, -np.inf, np.inf),
        (1e-3, 2.5, -3.0, np.inf),
        (3e5, 0.0, -np.inf, np.inf),
        (np.nan, 0.0, -np.inf, np.inf),
        (1e-3, np.inf, -np.inf, np.inf),
    ],
)
def test_full_tiles_round_and_saturate_as_separate_steps_do(dtype, scale, bias, low, high):
    """Without a bias and with |scale| < 1 there is a shorter way; products beyond int32 and NaN must not take it."""
    rng = np.random.default_rng(11)
    n = 48
    w = conf.weight_for(VNNI, rng, (n, 64))
    x = conf.activations(rng, dtype, (51, 64))
    scales, biases = np.full(n, 1e-3, np.float32), np.zeros(n, np.float32)
    scales[16:], biases[16:] = scale, bias
    zero_point = 3 if dtype == np.int8 else 131
    epilogue = IntegerEpilogue(rng.integers(-5000, 5000, n).astype(np.int32), scales, biases, low, high, zero_point)
    got = conf.matmul(VNNI, x, conf.pack(VNNI, w), epilogue, dtype)
    defined = np.isfinite(scales) & np.isfinite(biases)
    vectors = (epilogue.offset[defined], scales[defined], biases[defined])
    judged = IntegerEpilogue(*vectors, low, high, zero_point)
    expected = conf.expected_integers(naive.matmul(x, w[defined]), judged, dtype)
    np.testing.assert_array_equal(got[:, defined], expected)
    image = np.ascontiguousarray(x[:49].T).reshape(1, 64, 7, 7)
    for stacked in (image, np.concatenate([image] * 3), np.tile(image, (2, 1, 4, 1))):
        geometry = conf.geometry_of(stacked, w[:, :, None, None])
        planes = conf.conv(VNNI, stacked, geometry, conf.pack(VNNI, w), epilogue, dtype)
        first = planes[0, :, :7].reshape(n, 49).T
        np.testing.assert_array_equal(first, got[:49])
        np.testing.assert_array_equal(planes[-1, :, -7:].reshape(n, 49).T, got[:49])


@needs_vnni
@pytest.mark.parametrize("m", [1, 3, 16, 26])
def test_the_longest_reduction_at_its_corner(m):
    """255 x -128 everywhere reaches within one product of -2**31."""
    values = np.full((17, weight.MAX_K // 2), -128, np.int8)
    packed = VNNI.pack_weight(Indexed(values, np.zeros((17, -(-weight.MAX_K // 8)), np.uint8)))
    x = np.full((m, weight.MAX_K), 255, np.uint8)
    got = conf.matmul(VNNI, x, packed, *conf.sums_only(VNNI, 17))
    assert (got == -(weight.MAX_K // 2) * 255 * 128).all()


@needs_vnni
@pytest.mark.parametrize("channels", [3, 8, 13, 20])
@pytest.mark.parametrize("pixels", [(8, 12), (7, 17), (1, 200)])
def test_pixels_packed_from_planes(channels, pixels):
    rng = np.random.default_rng(channels)
    w = conf.weight_for(VNNI, rng, (18, channels, 1, 1))
    x = conf.activations(rng, np.int8, (2, channels, *pixels))
    geometry = conf.geometry_of(x, w)
    got = conf.conv(VNNI, x, geometry, conf.pack(VNNI, w), *conf.sums_only(VNNI, 18))
    conf.assert_conv_sums(VNNI, got, x, w, geometry)
