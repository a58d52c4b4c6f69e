"""Any function of one byte: what each of the 256 bytes becomes is looked up."""

import functools
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.jit.compilation import TaskFunction
from sparse_rt_kernels.jit.compiler import carray, cgutils, types
from sparse_rt_kernels.jit.llvm import F32, I8, I64
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.parts import part_bounds, worthwhile_parts
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.lanes import store_bytes
from sparse_rt_kernels.vectors.loops import UNIT, each_choice, each_unit, zero
from sparse_rt_kernels.vectors.registers import BYTES

__all__ = ["look_up_bytes", "prepare_byte_table"]

_RECORD = np.dtype([(name, "i8") for name in ("count", "parts", "table", "itemsize")])
#: Of one element on one core: looked up one by one, or 64 at a time.
_NANOSECONDS: Final = {4: 0.3, 1: 0.05}
#: Bytes that one permutation of two registers picks from.
_HALF: Final = 2 * UNIT


def _each_element(builder: Any, x: Any, y: Any, count: Any, table: Any, kind: Any) -> None:
    """Emit the loop that looks up one element after the other."""
    size = 4 if kind == F32 else 1
    with cgutils.for_range(builder, count) as loop:
        byte = simd.load(builder, simd.pointer(builder, builder.add(x, loop.index)), I8, 1)
        place = builder.add(table, builder.mul(builder.zext(byte, I64), I64(size)))
        out = simd.pointer(builder, builder.add(y, builder.mul(loop.index, I64(size))))
        simd.store(builder, out, simd.load(builder, simd.pointer(builder, place), kind, size), size)


def _each_register(builder: Any, x: Any, y: Any, count: Any, table: Any) -> None:
    """Emit the loop that looks up 64 bytes in the 4 registers that hold the table; needs VBMI."""
    base = simd.pointer(builder, table)
    quarters = [simd.load(builder, simd.element(builder, base, UNIT * i), BYTES) for i in range(4)]

    def look_up(at: Any, rest: Any) -> None:
        place = simd.pointer(builder, builder.add(x, at))
        values = simd.load(builder, place, BYTES) if rest is None else simd.load_first(builder, place, BYTES, rest)
        lower, upper = (simd.permute_two(builder, a, values, b) for a, b in (quarters[:2], quarters[2:]))
        is_upper = builder.icmp_unsigned(">=", values, simd.constant(I8, [_HALF] * UNIT))
        store_bytes(builder, builder.add(y, at), builder.select(is_upper, upper, lower), rest)

    each_unit(builder, count, look_up)


@simd.emitter
def look_up_bytes(context: Any, level: Any, x: Any, y: Any, count: Any, table: Any, is_wide: Any) -> Any:
    """``y = table[x]`` for `count` bytes x; the table holds float32 if `is_wide` is 1, else bytes.

    `level` is a literal int, that of :mod:`isa`.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, x, y, count, table, is_wide = given

        def emit(choice: int) -> None:
            if choice:
                _each_element(builder, x, y, count, table, F32)
            elif isa.allows(level.literal_value, "avx512vnni"):
                _each_register(builder, x, y, count, table)
            else:
                _each_element(builder, x, y, count, table, I8)

        each_choice(builder, [is_wide], emit)
        return zero()

    return types.intp(level, *[types.intp] * 5), generate


@functools.cache
def _task(level: int) -> TaskFunction:
    """Return the task for a level of :mod:`isa`."""

    def table_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
        """Look up one part of the elements."""
        r = carray(arguments, (1,), _RECORD)[0]
        first, last = part_bounds(r.count, UNIT, task, r.parts)
        return look_up_bytes(level, x + first, out + first * r.itemsize, last - first, r.table, r.itemsize // 4)

    return table_task


def prepare_byte_table(count: int, table: NDArray[Any], threads: int, tier: str | None = None) -> Launch:
    """Prepare ``y = table[x]``: ``launch.run(x, y, pool)``.

    Parameters
    ----------
    count
        Of the bytes of `x` and the elements of `y`, both C-contiguous.
    table
        (256,) float32, int8 or uint8, copied: what bytes 0 to 255 become; int8 -1 is byte 255. `y` has its dtype.
    threads
        How many threads there are to split the work over.
    tier
        The most specific one whose instructions may be used; see :func:`isa.supported_tiers`.
    """
    if table.shape != (256,) or table.dtype.char not in "fbB":
        raise TypeError(f"byte table: expected 256 float32, int8 or uint8, got {table.dtype} {table.shape}.")
    entries, size = np.array(table), table.dtype.itemsize
    parts = worthwhile_parts(count * _NANOSECONDS[size], threads)
    record = np.array([(count, parts, entries.ctypes.data, size)], _RECORD)
    return Launch([Phase(_task(isa.level(tier)), record, parts)], keep=(entries,))
