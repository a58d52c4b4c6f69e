"""Every vector operation computes what its NumPy meaning says."""

import numpy as np
import pytest
from llvmlite import ir
from numba import njit, types
from numba.core import config
from numba.extending import intrinsic
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.jit.llvm import F32, I8, I16, I32, I64
from sparse_rt_kernels.vectors import simd

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="emitted code needs the JIT")

ITEMS = {
    np.dtype(np.int8): I8,
    np.dtype(np.uint8): I8,
    np.dtype(np.int16): I16,
    np.dtype(np.int32): I32,
    np.dtype(np.int64): I64,
    np.dtype(np.float32): F32,
}


def kind_of(array):
    return simd.vector(ITEMS[array.dtype], array.size)


def run(emit, arrays, result):
    """Compile emit(builder, *pointers, result pointer), run it on copies of arrays and return the result."""
    width = len(arrays) + 1

    @intrinsic
    def body(typing, addresses):
        def codegen(context, builder, signature, args):
            pointers = [simd.pointer(builder, builder.extract_value(args[0], i)) for i in range(width)]
            emit(builder, *pointers)
            return context.get_dummy_value()

        return types.void(addresses), codegen

    @njit
    def call(addresses):
        body(addresses)

    held = [np.array(array) for array in (*arrays, result)]
    call(tuple(array.ctypes.data for array in held))
    return held[-1]


def vectors(builder, pointers, arrays):
    return [simd.load(builder, p, kind_of(a)) for p, a in zip(pointers, arrays, strict=True)]


def check(name, *arrays, more=(), emit_more=None):
    operation = simd.OPERATIONS[name]
    if operation.needs not in isa.supported_tiers():
        pytest.skip(f"{name} needs {operation.needs}")
    expected = operation.meaning(*arrays, *more)

    def emit(builder, *pointers):
        values = vectors(builder, pointers[:-1], arrays)
        out = operation(builder, *values, *(more if emit_more is None else emit_more))
        simd.store(builder, pointers[-1], out)

    got = run(emit, arrays, np.zeros_like(expected))
    np.testing.assert_array_equal(got, expected)


def random(dtype, size, seed=0):
    rng = np.random.default_rng(seed)
    if dtype is np.float32:
        return (rng.integers(-(2**12), 2**12, size) / 64).astype(np.float32)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, size, dtype, endpoint=True)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "bitwise_and", "bitwise_xor"])
@pytest.mark.parametrize(("dtype", "lanes"), [(np.int32, 16), (np.int8, 64), (np.int64, 8), (np.int8, 16)])
def test_integer_operations(name, dtype, lanes):
    check(name, random(dtype, lanes), random(dtype, lanes, 1))


SPECIAL = np.array([np.nan, 1, np.nan, np.inf, -np.inf, 0.0, -0.0, 2.5] * 2, np.float32)


@pytest.mark.parametrize("name", ["fadd", "fsubtract", "fmultiply", "larger", "smaller"])
@pytest.mark.parametrize("a", [random(np.float32, 16), SPECIAL])
@pytest.mark.parametrize("b", [random(np.float32, 16, 1), np.roll(SPECIAL, 3)])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_float_operations(name, a, b):
    check(name, a, b)


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_fma_rounds_once(lanes):
    check("fma", random(np.float32, lanes), random(np.float32, lanes, 1), random(np.float32, lanes, 2))
    a = np.full(lanes, 1 + 2.0**-12, np.float32)
    check("fma", a, a, np.full(lanes, -1, np.float32))


def test_conversions():
    check("to_float", random(np.int32, 16))
    ties = np.array(
        [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 254.5, 255.5, 1e9, -1e9, 0.49999997, 0, 7, -7, 3.5, 4.5], np.float32
    )
    check("round_to_int", ties)
    check("narrow_to_byte", random(np.int32, 16))
    check("widen_byte", random(np.uint8, 16))


def test_bitcast():
    check("bitcast", random(np.int32, 16), more=(np.int8,), emit_more=(simd.vector(I8, 64),))


def test_shuffle():
    check("shuffle", random(np.int32, 16), random(np.int32, 16, 1), more=([0, 31, 5, 17, 16, 15, 3, 3],))


@pytest.mark.parametrize(
    ("dtype", "size"), [(np.float32, 16), (np.int32, 16), (np.float32, 8), (np.int64, 8), (np.int8, 16)]
)
def test_transpose(dtype, size):
    square = random(dtype, size * size)
    expected = np.concatenate(simd.transpose.meaning(list(square.reshape(size, size))))

    def emit(builder, source, target):
        kind = simd.vector(ITEMS[np.dtype(dtype)], size)
        step = size * np.dtype(dtype).itemsize
        rows = [simd.load(builder, simd.element(builder, source, i * step), kind) for i in range(size)]
        for i, row in enumerate(simd.transpose(builder, rows)):
            simd.store(builder, simd.element(builder, target, i * step), row)

    np.testing.assert_array_equal(run(emit, [square], np.zeros_like(square)), expected)
    np.testing.assert_array_equal(expected.reshape(size, size), square.reshape(size, size).T)


@pytest.mark.parametrize(("dtype", "lanes"), [(np.float32, 16), (np.int64, 8)])
def test_broadcast(dtype, lanes):
    scalar = random(dtype, 1)

    def emit(builder, source, target):
        value = simd.load(builder, source, ITEMS[np.dtype(dtype)])
        simd.store(builder, target, simd.broadcast(builder, value, lanes))

    got = run(emit, [scalar], np.zeros(lanes, dtype))
    np.testing.assert_array_equal(got, simd.broadcast.meaning(scalar[0], lanes))


@pytest.mark.parametrize("count", [-1, 0, 1, 7, 15, 16, 17])
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int8])
def test_partial_memory(dtype, count):
    source = random(dtype, 16)
    target = random(np.uint8, 16 * source.itemsize, 5)
    constant = I64(count)
    kind = kind_of(source)

    def emit_load(builder, pointer, out):
        simd.store(builder, out, simd.load_first(builder, pointer, kind, constant))

    got = run(emit_load, [source], np.ones_like(source))
    np.testing.assert_array_equal(got, simd.load_first.meaning(source.view(np.uint8), dtype, 16, count))

    def emit_store(builder, pointer, out):
        simd.store_first(builder, out, simd.load(builder, pointer, kind), constant)

    got = run(emit_store, [source], target)
    np.testing.assert_array_equal(got, simd.store_first.meaning(target, source, count))


def test_memory():
    source = random(np.float32, 16)
    kind = kind_of(source)
    loaded = run(lambda b, p, out: simd.store(b, out, simd.load(b, p, kind)), [source], np.zeros_like(source))
    np.testing.assert_array_equal(loaded, simd.load.meaning(source.view(np.uint8), np.float32, 16))
    memory = random(np.uint8, 80)
    stored = run(lambda b, p, out: simd.store(b, out, simd.load(b, p, kind)), [source], memory)
    np.testing.assert_array_equal(stored, simd.store.meaning(memory, source))


def test_masked_store():
    value, memory = random(np.int8, 16), random(np.uint8, 40, 1)
    mask = random(np.int8, 16, 2) > 0
    lanes = ir.Constant(simd.vector(ir.IntType(1), 16), mask.astype(int).tolist())
    got = run(lambda b, p, out: simd.store_masked(b, out, simd.load(b, p, kind_of(value)), lanes), [value], memory)
    np.testing.assert_array_equal(got, simd.store_masked.meaning(memory, value, mask))


def test_masked_load_and_gather():
    source = random(np.float32, 32)
    mask = random(np.int8, 16) > 0
    other = random(np.float32, 16, 1)
    offsets = np.array([0, 31, -1, 5, 5, -7, 16, 2, 3, 4, 30, -1, 9, 8, 7, 1], np.int32)
    kind, mask_kind = kind_of(other), simd.vector(ir.IntType(1), 16)

    def emit_masked(builder, pointer, passed, out):
        value = simd.load_masked(
            builder, pointer, kind, ir.Constant(mask_kind, mask.astype(int).tolist()), simd.load(builder, passed, kind)
        )
        simd.store(builder, out, value)

    got = run(emit_masked, [source, other], np.zeros_like(other))
    np.testing.assert_array_equal(got, simd.load_masked.meaning(source.view(np.uint8), np.float32, mask, other))

    def emit_gather(builder, pointer, where, out):
        chosen = simd.load(builder, where, kind_of(offsets))
        simd.store(builder, out, simd.gather(builder, pointer, chosen, kind))

    got = run(emit_gather, [source, offsets], np.zeros_like(other))
    np.testing.assert_array_equal(got, simd.gather.meaning(source.view(np.uint8), offsets, np.float32))


def test_dot_wraps_and_does_not_saturate():
    a, b = random(np.int8, 64).view(np.int32), random(np.int8, 64, 1).view(np.int32)
    check("dot_u8s8", random(np.int32, 16, 2), a, b)
    extreme = np.full(64, 255, np.uint8).view(np.int32), np.full(64, -128, np.int8).view(np.int32)
    check("dot_u8s8", np.full(16, -(2**31) + 5, np.int32), *extreme)


def test_pairs_of_products():
    check("dot_s16", random(np.int16, 32), random(np.int16, 32, 1))
    check("dot_s16", random(np.int16, 16), random(np.int16, 16, 1))
    check("dot_s16", np.full(32, -(2**15), np.int16), np.full(32, -(2**15), np.int16))


def test_narrower_registers():
    a, b = (random(dtype, 32).view(np.int32) for dtype in (np.uint8, np.int8))
    check("dot_u8s8", random(np.int32, 8, 2), a, b)
    check("shuffle_bytes", random(np.int8, 32), random(np.int8, 32, 1))


def test_byte_shuffles():
    check("shuffle_bytes", random(np.int8, 64), random(np.int8, 64, 1))
    check("multishift", random(np.int8, 64), random(np.int8, 64, 1))


def test_saturating_arithmetic():
    wide = np.array([0, 1, -1, 32767, 32768, -32768, -32769, 2**31 - 1, -(2**31), 5, 6, 7, 8, 9, 10, 11], np.int32)
    check("pack_int16", wide, random(np.int32, 16))
    words = np.concatenate([wide, wide[::-1]]).astype(np.int16)
    check("pack_uint8", words, random(np.int16, 32) // 100)
    check("add_saturated", words, random(np.int16, 32))
    check("larger_byte", random(np.uint8, 64), random(np.uint8, 64, 1))
    check("smaller_byte", random(np.uint8, 64), random(np.uint8, 64, 1))
    floats = [0.5, 1.5, -0.5, -2.5, np.nan, np.inf, -np.inf, 3e9, -3e9, 2.0**31, -(2.0**31), 7, 0.49, 1e6, -7, 0]
    check("nearest_int", np.array(floats, np.float32))


def test_lanes_permuted_and_shifted():
    check("permute", random(np.float32, 16), random(np.int32, 16))
    check("permute_bytes", random(np.int8, 64), random(np.int8, 64, 1))
    check("permute_two_floats", random(np.float32, 16), random(np.int32, 16), random(np.float32, 16, 2))
    check("permute_two", random(np.int8, 64), random(np.int8, 64, 1), random(np.int8, 64, 2))
    check("shift_right", random(np.int32, 16), random(np.int32, 16, 1) & 31)
    check("shift_right", random(np.int8, 16), random(np.int8, 16, 1) & 7)


def test_prefetch_changes_nothing():
    def emit(builder, pointer, out):
        simd.prefetch(builder, pointer)
        simd.prefetch(builder, simd.element(builder, pointer, 1 << 40))
        simd.store(builder, out, simd.load(builder, pointer, kind_of(kept)))

    kept = random(np.int32, 16)
    np.testing.assert_array_equal(run(emit, [kept], np.zeros_like(kept)), kept)


@pytest.mark.parametrize("name", ["in_register", "in_order"])
def test_marks_for_the_compiler_change_nothing(name):
    check(name, random(np.float32, 16))
    check(name, random(np.int32, 16))


def test_every_operation_is_tested():
    tested = {
        *("add", "subtract", "multiply", "bitwise_and", "bitwise_xor", "fadd", "fsubtract", "fmultiply", "fma"),
        *("larger", "smaller", "to_float", "round_to_int", "narrow_to_byte", "widen_byte", "bitcast", "shuffle"),
        *("transpose", "broadcast", "load", "store", "load_first", "store_first", "load_masked"),
        *(
            "gather",
            "prefetch",
            "permute",
            "permute_bytes",
            "permute_two",
            "permute_two_floats",
            "shift_right",
            "store_masked",
        ),
        *(
            "nearest_int",
            "pack_int16",
            "pack_uint8",
            "add_saturated",
            "larger_byte",
            "smaller_byte",
        ),
        *("dot_u8s8", "dot_s16", "shuffle_bytes", "multishift", "in_register", "in_order"),
    }
    assert tested == set(simd.OPERATIONS)


def test_what_emits_a_value_has_a_meaning():
    """But for what makes types, constants and addresses."""
    others = {"OPERATIONS", "Operation", "emitter", "vector", "constant", "pointer", "element", "item"}
    assert set(simd.__all__) - others == set(simd.OPERATIONS)
    assert all(getattr(simd, name) is operation for name, operation in simd.OPERATIONS.items())
