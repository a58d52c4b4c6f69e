"""The vector vocabulary: each operation as LLVM IR, beside its meaning in NumPy.

A kernel is a Numba intrinsic that unrolls a tile in Python and emits these operations. Plain IR on ``<16 x float>``
and its like compiles for every CPU (LLVM splits what is wider than a register); the operations that name x86
instructions say so and belong in kernels of that tier only.

Every operation is an :class:`Operation`: call it with a builder and IR values to emit it; call its ``meaning`` with
arrays to compute what the emitted code computes. Tests run both over the same lanes.
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, ParamSpec

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from sparse_rt_kernels.jit.compiler import cgutils, emitter
from sparse_rt_kernels.jit.llvm import F32, I8, I16, I32, I64

__all__ = [
    "emitter",
    "Operation",
    "OPERATIONS",
    "vector",
    "constant",
    "pointer",
    "element",
    "load",
    "store",
    "load_first",
    "store_first",
    "load_masked",
    "store_masked",
    "prefetch",
    "gather",
    "broadcast",
    "bitcast",
    "shuffle",
    "add",
    "subtract",
    "multiply",
    "fadd",
    "fsubtract",
    "fmultiply",
    "fma",
    "larger",
    "smaller",
    "bitwise_and",
    "bitwise_xor",
    "shift_right",
    "to_float",
    "round_to_int",
    "narrow_to_byte",
    "widen_byte",
    "transpose",
    "dot_u8s8",
    "dot_s16",
    "shuffle_bytes",
    "multishift",
    "permute",
    "permute_bytes",
    "permute_two",
    "permute_two_floats",
    "in_register",
    "in_order",
]

Array = NDArray[Any]
P = ParamSpec("P")


class Operation(Generic[P]):
    """A vector operation: how it is emitted and what it means.

    Attributes
    ----------
    name
        Its name in this module.
    meaning
        The same on NumPy arrays of lanes.
    needs
        The tier of :mod:`sparse_rt_kernels.cpu.isa` whose instructions it names; ``"generic"`` for plain IR.
    """

    def __init__(self, emit: Callable[P, Any], meaning: Callable[..., Any], needs: str) -> None:
        self.name = emit.__name__
        self.meaning = meaning
        self.needs = needs
        self.__doc__ = emit.__doc__
        self._emit = emit

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Emit the operation; the first argument is the IR builder."""
        return self._emit(*args, **kwargs)


#: Every operation that has a meaning, by name.
OPERATIONS: dict[str, Operation[Any]] = {}


def _operation(meaning: Callable[..., Any], needs: str = "generic") -> Callable[[Callable[P, Any]], Operation[P]]:
    def wrap(emit: Callable[P, Any]) -> Operation[P]:
        made = Operation(emit, meaning, needs)
        OPERATIONS[made.name] = made
        return made

    return wrap


# --- types, constants, addresses ---------------------------------------------------------------------------------


def vector(item: Any, lanes: int) -> Any:
    """Return the IR type of `lanes` items: ``vector(F32, 16)`` is ``<16 x float>``."""
    return ir.VectorType(item, lanes)


def constant(item: Any, lanes: Sequence[int] | Sequence[float]) -> Any:
    """Return a constant vector."""
    return ir.Constant(vector(item, len(lanes)), list(lanes))


def pointer(builder: Any, address: Any) -> Any:
    """Return an address (an intp value in the kernel) as a byte pointer."""
    return builder.inttoptr(address, I8.as_pointer())


def element(builder: Any, base: Any, offset: Any) -> Any:
    """Return the byte pointer `base` moved by `offset` bytes, an IR integer or a Python int."""
    if isinstance(offset, int):
        offset = I64(offset)
    return builder.gep(base, [offset], source_etype=I8)


# --- memory: `memory` in a meaning is a uint8 array that begins at the pointer ---------------------------------------


def _load_meaning(memory: Array, dtype: Any, lanes: int) -> Array:
    return np.array(memory[: lanes * np.dtype(dtype).itemsize].view(dtype))


def _store_meaning(memory: Array, value: Array) -> Array:
    out = memory.copy()
    out[: value.nbytes] = value.view(np.uint8)
    return out


def _load_first_meaning(memory: Array, dtype: Any, lanes: int, count: int) -> Array:
    out = np.zeros(lanes, dtype)
    kept = min(max(count, 0), lanes)
    out[:kept] = memory[: kept * out.itemsize].view(dtype)
    return out


@_operation(_load_meaning)
def load(builder: Any, base: Any, kind: Any, align: int = 1) -> Any:
    """Load a value of type `kind` from a byte pointer; `align` is what is known of the address."""
    return builder.load(builder.bitcast(base, kind.as_pointer()), align=align, typ=kind)


@_operation(_store_meaning)
def store(builder: Any, base: Any, value: Any, align: int = 1) -> None:
    """Store `value` at a byte pointer."""
    builder.store(value, builder.bitcast(base, value.type.as_pointer()), align=align)


def _first_lanes(builder: Any, lanes: int, count: Any) -> Any:
    """Return the mask of lanes below `count`, an IR i64."""
    return builder.icmp_signed("<", constant(I64, range(lanes)), broadcast(builder, count, lanes))


def _masked_name(access: str, kind: Any) -> str:
    item = "f" if isinstance(kind.element, ir.FloatType) else "i"
    bits = 32 if item == "f" else kind.element.width
    return f"llvm.masked.{access}.v{kind.count}{item}{bits}.p0"


@_operation(_load_first_meaning)
def load_first(builder: Any, base: Any, kind: Any, count: Any) -> Any:
    """Load the first `count` lanes (an IR i64) and zeros for the others, whose memory is not touched."""
    mask = _first_lanes(builder, kind.count, count)
    passed = kind.as_pointer()
    signature = ir.FunctionType(kind, [passed, I32, mask.type, kind])
    function = cgutils.get_or_insert_function(builder.module, signature, _masked_name("load", kind))
    return builder.call(function, [builder.bitcast(base, passed), I32(1), mask, ir.Constant(kind, None)])


@_operation(lambda memory, value, count: _store_meaning(memory, value[: max(count, 0)]))
def store_first(builder: Any, base: Any, value: Any, count: Any) -> None:
    """Store the first `count` lanes (an IR i64); memory beyond them is not touched."""
    mask = _first_lanes(builder, value.type.count, count)
    passed = value.type.as_pointer()
    signature = ir.FunctionType(ir.VoidType(), [value.type, passed, I32, mask.type])
    function = cgutils.get_or_insert_function(builder.module, signature, _masked_name("store", value.type))
    builder.call(function, [value, builder.bitcast(base, passed), I32(1), mask])


def _gather_meaning(memory: Array, offsets: Array, dtype: Any) -> Array:
    held = memory.view(dtype)
    return np.array([held[offset] if offset >= 0 else 0 for offset in offsets], dtype)


@_operation(lambda memory, dtype, mask, other: np.where(mask, _load_meaning(memory, dtype, mask.size), other))
def load_masked(builder: Any, base: Any, kind: Any, mask: Any, other: Any) -> Any:
    """Load the lanes of `mask` (<n x i1>) and take the others from `other`; their memory is not touched."""
    passed = kind.as_pointer()
    signature = ir.FunctionType(kind, [passed, I32, mask.type, kind])
    function = cgutils.get_or_insert_function(builder.module, signature, _masked_name("load", kind))
    return builder.call(function, [builder.bitcast(base, passed), I32(1), mask, other])


def _store_masked_meaning(memory: Array, value: Array, mask: Array) -> Array:
    return _store_meaning(memory, np.where(mask, value, _load_meaning(memory, value.dtype, value.size)))


@_operation(_store_masked_meaning)
def store_masked(builder: Any, base: Any, value: Any, mask: Any) -> None:
    """Store the lanes of `mask` (<n x i1>); the memory of the others is not touched."""
    passed = value.type.as_pointer()
    signature = ir.FunctionType(ir.VoidType(), [value.type, passed, I32, mask.type])
    function = cgutils.get_or_insert_function(builder.module, signature, _masked_name("store", value.type))
    builder.call(function, [value, builder.bitcast(base, passed), I32(1), mask])


@_operation(lambda memory: memory)
def prefetch(builder: Any, base: Any, level: int = 2, write: bool = False) -> None:
    """Call the cache line at a byte pointer into L2, or L1 if `level` is 1; any address may be named.

    If it is called to `write`, no other core keeps it.
    """
    signature = ir.FunctionType(ir.VoidType(), [base.type, I32, I32, I32])
    function = cgutils.get_or_insert_function(builder.module, signature, "llvm.prefetch.p0")
    builder.call(function, [base, I32(int(write)), I32(4 - level), I32(1)])


@_operation(_gather_meaning)
def gather(builder: Any, base: Any, offsets: Any, kind: Any) -> Any:
    """Load item ``offsets[i]`` (int32, in items) of the array at `base` into lane i; 0 where the offset is negative."""
    lanes, passed = kind.count, kind.element.as_pointer()
    start = broadcast(builder, builder.ptrtoint(base, I64), lanes)
    bytes_ = builder.mul(builder.sext(offsets, vector(I64, lanes)), constant(I64, [4] * lanes))
    addresses = builder.inttoptr(builder.add(start, bytes_), vector(passed, lanes))
    mask = builder.icmp_signed(">=", offsets, ir.Constant(offsets.type, None))
    signature = ir.FunctionType(kind, [addresses.type, I32, mask.type, kind])
    name = f"llvm.masked.gather.v{lanes}f32.v{lanes}p0"
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    return builder.call(function, [addresses, I32(4), mask, ir.Constant(kind, None)])


# --- lanes ---------------------------------------------------------------------------------------------------------


@_operation(lambda scalar, lanes: np.full(lanes, scalar))
def broadcast(builder: Any, scalar: Any, lanes: int) -> Any:
    """Return `scalar` in every lane; of a loaded scalar this is one load-and-broadcast instruction."""
    kind = vector(scalar.type, lanes)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, I32(0))
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), constant(I32, [0] * lanes))


@_operation(lambda a, dtype: a.view(dtype))
def bitcast(builder: Any, a: Any, kind: Any) -> Any:
    """Return the same bytes as another type."""
    return builder.bitcast(a, kind)


@_operation(lambda a, b, lanes: np.concatenate([a, b])[list(lanes)])
def shuffle(builder: Any, a: Any, b: Any, lanes: Sequence[int]) -> Any:
    """Return lane ``lanes[i]`` of a followed by b, for every i; a and b have one type."""
    return builder.shuffle_vector(a, b, constant(I32, list(lanes)))


# --- integers (two's complement, wrapping) ---------------------------------------------------------------------------


@_operation(lambda a, b: a + b)
def add(builder: Any, a: Any, b: Any) -> Any:
    """Add integers."""
    return builder.add(a, b)


@_operation(lambda a, b: a - b)
def subtract(builder: Any, a: Any, b: Any) -> Any:
    """Subtract integers."""
    return builder.sub(a, b)


@_operation(lambda a, b: a * b)
def multiply(builder: Any, a: Any, b: Any) -> Any:
    """Multiply integers."""
    return builder.mul(a, b)


@_operation(lambda a, b: a & b)
def bitwise_and(builder: Any, a: Any, b: Any) -> Any:
    """Keep the bits that both have."""
    return builder.and_(a, b)


@_operation(lambda a, b: a ^ b)
def bitwise_xor(builder: Any, a: Any, b: Any) -> Any:
    """Flip the bits of a that b has."""
    return builder.xor(a, b)


@_operation(lambda a, b: (a.view(f"u{a.itemsize}") >> b.view(f"u{b.itemsize}")).view(a.dtype))
def shift_right(builder: Any, a: Any, b: Any) -> Any:
    """Shift each lane of a right by that lane of b (less than the lane's bits); zeros enter."""
    return builder.lshr(a, b)


@_operation(np.maximum)
def larger_int(builder: Any, a: Any, b: Any) -> Any:
    """Return the larger of two signed integers."""
    return builder.select(builder.icmp_signed(">", a, b), a, b)


@_operation(np.minimum)
def smaller_int(builder: Any, a: Any, b: Any) -> Any:
    """Return the smaller of two signed integers."""
    return builder.select(builder.icmp_signed("<", a, b), a, b)


@_operation(lambda a: a.astype(np.uint8))
def narrow_to_byte(builder: Any, a: Any) -> Any:
    """Return the low byte of each integer lane."""
    return builder.trunc(a, vector(I8, a.type.count))


@_operation(lambda a: a.view(np.uint8).astype(np.int32))
def widen_byte(builder: Any, a: Any) -> Any:
    """Return unsigned bytes as int32 lanes."""
    return builder.zext(a, vector(I32, a.type.count))


# --- floats: each operation is rounded on its own, never contracted --------------------------------------------------


@_operation(lambda a, b: a + b)
def fadd(builder: Any, a: Any, b: Any) -> Any:
    """Add floats."""
    return builder.fadd(a, b)


@_operation(lambda a, b: a - b)
def fsubtract(builder: Any, a: Any, b: Any) -> Any:
    """Subtract floats."""
    return builder.fsub(a, b)


@_operation(lambda a, b: a * b)
def fmultiply(builder: Any, a: Any, b: Any) -> Any:
    """Multiply floats."""
    return builder.fmul(a, b)


# A float32 product is exact in float64; rounding the sum twice differs from once in rare ties only.
@_operation(lambda a, b, c: (a.astype(np.float64) * b + c).astype(np.float32))
def fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """Multiply and add floats: a * b + c, rounded once."""
    signature = ir.FunctionType(a.type, [a.type] * 3)
    name = f"llvm.fma.v{a.type.count}f32" if isinstance(a.type, ir.VectorType) else "llvm.fma.f32"
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), [a, b, c])


@_operation(lambda a, b: np.where(a > b, a, b))
def larger(builder: Any, a: Any, b: Any) -> Any:
    """Return a where a > b, else b: if either is NaN, b. One x86 instruction; put the value to keep as NaN second."""
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


@_operation(lambda a, b: np.where(a < b, a, b))
def smaller(builder: Any, a: Any, b: Any) -> Any:
    """Return a where a < b, else b: if either is NaN, b."""
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


@_operation(lambda a: a.astype(np.float32))
def to_float(builder: Any, a: Any) -> Any:
    """int32 to float32, half to even."""
    return builder.sitofp(a, vector(F32, a.type.count))


@_operation(lambda a: np.rint(a).astype(np.int32))
def round_to_int(builder: Any, a: Any) -> Any:
    """float32 to int32, half to even; the caller has brought every lane into int32's range (NaN is undefined)."""
    signature = ir.FunctionType(a.type, [a.type])
    rint = cgutils.get_or_insert_function(builder.module, signature, f"llvm.rint.v{a.type.count}f32")
    return builder.fptosi(builder.call(rint, [a]), vector(I32, a.type.count))


# --- transpose -------------------------------------------------------------------------------------------------------


@_operation(lambda rows: list(np.ascontiguousarray(np.stack(rows).T)))
def transpose(builder: Any, rows: Sequence[Any]) -> list[Any]:
    """Transpose a square of vectors: lane j of row i becomes lane i of row j.

    A power of two of rows, as many as lanes. log2(rows) times the first half of the rows is interleaved with the
    second, lane by lane: a perfect shuffle, after which each lane number has become a row number. Of 16-byte vectors
    these are the unpack instructions.
    """
    size = len(rows)
    low = [lane for first in range(size // 2) for lane in (first, size + first)]
    high = [lane + size // 2 for lane in low]
    current = list(rows)
    for _ in range(size.bit_length() - 1):
        pairs = list(zip(current[: size // 2], current[size // 2 :], strict=True))
        current = [shuffle(builder, a, b, half) for a, b in pairs for half in (low, high)]
    return current


# --- x86 instructions ------------------------------------------------------------------------------------------------


def _x86(builder: Any, name: str, result: Any, operands: Sequence[Any]) -> Any:
    signature = ir.FunctionType(result, [operand.type for operand in operands])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), operands)


def _dot_meaning(acc: Array, a: Array, b: Array) -> Array:
    products = a.view(np.uint8).astype(np.int32) * b.view(np.int8).astype(np.int32)
    total: Array = acc + products.reshape(-1, 4).sum(axis=1, dtype=np.int32)
    return total


@_operation(_dot_meaning, needs="avx512vnni")
def dot_u8s8(builder: Any, acc: Any, a: Any, b: Any) -> Any:
    """Add 4 products of unsigned bytes of a and signed bytes of b to each lane, wrapping: vpdpbusd.

    All are <16 x i32>, or <8 x i32>, which AVX-VNNI suffices for.
    """
    name = f"llvm.x86.avx512.vpdpbusd.{32 * acc.type.count}"
    return _x86(builder, name, acc.type, [acc, a, b])


def _dot_s16_meaning(a: Array, b: Array) -> Array:
    products = a.astype(np.int32) * b.astype(np.int32)
    total: Array = products.reshape(-1, 2).sum(axis=1, dtype=np.int32)
    return total


@_operation(_dot_s16_meaning, needs="avx512")
def dot_s16(builder: Any, a: Any, b: Any) -> Any:
    """Return the sums of 2 products of int16 lanes, wrapping: vpmaddwd.

    a and b are <32 x i16>, or <16 x i16>, which AVX2 suffices for; the result has half as many i32 lanes.
    """
    lanes = a.type.count // 2
    name = "llvm.x86.avx512.pmaddw.d.512" if lanes == 16 else "llvm.x86.avx2.pmadd.wd"
    return _x86(builder, name, vector(I32, lanes), [a, b])


def _shuffle_bytes_meaning(a: Array, control: Array) -> Array:
    lanes, steer = a.reshape(-1, 16), control.view(np.uint8).reshape(-1, 16)
    moved = np.take_along_axis(lanes, (steer & 15).astype(np.intp), axis=1)
    return np.where(steer & 128, 0, moved).astype(a.dtype).ravel()


@_operation(_shuffle_bytes_meaning, needs="avx512")
def shuffle_bytes(builder: Any, a: Any, control: Any) -> Any:
    """Return byte ``control & 15`` within each 16 bytes of a, 0 where control's top bit is set: vpshufb.

    Both are <64 x i8>, or <32 x i8>, which AVX2 suffices for.
    """
    name = "llvm.x86.avx512.pshuf.b.512" if a.type.count == 64 else "llvm.x86.avx2.pshuf.b"
    return _x86(builder, name, a.type, [a, control])


def _multishift_meaning(control: Array, a: Array) -> Array:
    words = np.repeat(a.view(np.uint64), 8)
    shift = (control.view(np.uint8) & 63).astype(np.uint64)
    rotated = (words >> shift) | (words << ((np.uint64(64) - shift) & np.uint64(63)))
    return rotated.astype(np.uint8)


@_operation(_multishift_meaning, needs="avx512vnni")
def multishift(builder: Any, control: Any, a: Any) -> Any:
    """Return 8 bits of a's 64-bit word ``i // 8`` from bit ``control[i] & 63`` on, cyclic: vpmultishiftqb."""
    return _x86(builder, "llvm.x86.avx512.pmultishift.qb.512", a.type, [control, a])


@_operation(lambda a, control: a[control & 15], needs="avx512")
def permute(builder: Any, a: Any, control: Any) -> Any:
    """Return lane ``control & 15`` of a in each lane: vpermps, <16 x float> by <16 x i32>."""
    return _x86(builder, "llvm.x86.avx512.permvar.sf.512", a.type, [a, control])


@_operation(lambda a, control: a[control & 63], needs="avx512vnni")
def permute_bytes(builder: Any, a: Any, control: Any) -> Any:
    """Return byte ``control & 63`` of a in each byte: vpermb, both <64 x i8>."""
    return _x86(builder, "llvm.x86.avx512.permvar.qi.512", a.type, [a, control])


@_operation(lambda a, control, b: np.concatenate([a, b])[control & 127], needs="avx512vnni")
def permute_two(builder: Any, a: Any, control: Any, b: Any) -> Any:
    """Return byte ``control & 127`` of a followed by b in each byte: vpermi2b, all <64 x i8>."""
    return _x86(builder, "llvm.x86.avx512.vpermi2var.qi.512", a.type, [a, control, b])


@_operation(lambda a, control, b: np.concatenate([a, b])[control & 31], needs="avx512")
def permute_two_floats(builder: Any, a: Any, control: Any, b: Any) -> Any:
    """Return lane ``control & 31`` of a followed by b in each lane: vpermi2ps, <16 x float> by <16 x i32>."""
    return _x86(builder, "llvm.x86.avx512.vpermi2var.ps.512", a.type, [a, control, b])


def _nearest_meaning(a: Array) -> Array:
    inside = (a >= -(2.0**31)) & (a < 2.0**31)
    return np.where(inside, np.rint(np.where(inside, a, 0)), -(2.0**31)).astype(np.int64).astype(np.int32)


@_operation(_nearest_meaning, needs="avx512")
def nearest_int(builder: Any, a: Any) -> Any:
    """<16 x float> to int32, half to even; -2**31 for NaN and for what int32 does not hold: vcvtps2dq."""
    kind = vector(I32, 16)
    name = "llvm.x86.avx512.mask.cvtps2dq.512"
    signature = ir.FunctionType(kind, [a.type, kind, I16, I32])
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    # All lanes, in the rounding mode that the thread is in.
    return builder.call(function, [a, ir.Constant(kind, None), I16(-1), I32(4)])


def _pack_meaning(dtype: Any) -> Callable[[Array, Array], Array]:
    def meaning(a: Array, b: Array) -> Array:
        info = np.iinfo(dtype)
        quarters = np.stack([a.reshape(4, -1), b.reshape(4, -1)], axis=1)
        return quarters.clip(info.min, info.max).astype(dtype).ravel()

    return meaning


@_operation(_pack_meaning(np.int16), needs="avx512")
def pack_int16(builder: Any, a: Any, b: Any) -> Any:
    """Saturate int32 to int16; within each 16 bytes, lanes of a, then of b: vpackssdw, <16 x i32> to <32 x i16>."""
    return _x86(builder, "llvm.x86.avx512.packssdw.512", vector(I16, 32), [a, b])


@_operation(_pack_meaning(np.uint8), needs="avx512")
def pack_uint8(builder: Any, a: Any, b: Any) -> Any:
    """Saturate int16 to uint8; within each 16 bytes, lanes of a, then of b: vpackuswb, <32 x i16> to <64 x i8>."""
    return _x86(builder, "llvm.x86.avx512.packuswb.512", vector(I8, 64), [a, b])


@_operation(lambda a, b: (a.astype(np.int32) + b).clip(-(2**15), 2**15 - 1).astype(np.int16))
def add_saturated(builder: Any, a: Any, b: Any) -> Any:
    """Add int16 lanes, saturating."""
    return _x86(builder, f"llvm.sadd.sat.v{a.type.count}i16", a.type, [a, b])


@_operation(lambda a, b: np.maximum(a.view(np.uint8), b.view(np.uint8)))
def larger_byte(builder: Any, a: Any, b: Any) -> Any:
    """Return the larger of two unsigned bytes."""
    return builder.select(builder.icmp_unsigned(">", a, b), a, b)


@_operation(lambda a, b: np.minimum(a.view(np.uint8), b.view(np.uint8)))
def smaller_byte(builder: Any, a: Any, b: Any) -> Any:
    """Return the smaller of two unsigned bytes."""
    return builder.select(builder.icmp_unsigned("<", a, b), a, b)


@_operation(lambda a: a, needs="avx512")
def in_register(builder: Any, a: Any) -> Any:
    """Return the vector `a` unchanged, but as if LLVM did not know where it came from.

    LLVM turns "broadcast lane i of a loaded vector" into one load a lane; where loads are the bottleneck and shuffles
    are free, this keeps it one load and shuffles.
    """
    signature = ir.FunctionType(a.type, [a.type])
    return builder.asm(signature, "", "=v,0", [a], False)


@_operation(lambda a: a, needs="avx512")
def in_order(builder: Any, a: Any) -> Any:
    """Return a vector or an integer unchanged; LLVM keeps the order of such marks, and with it what lies between them.

    LLVM's scheduler moves an instruction next to the one that needs its result. A value marked when it is made and
    again before it is used keeps its distance. LLVM does not know where a marked value came from.
    """
    signature = ir.FunctionType(a.type, [a.type])
    register = "r" if isinstance(a.type, ir.IntType) else "v"
    return builder.asm(signature, "", f"={register},0", [a], True)
