"""Gelu, after adding a bias or dequantising, and before quantising, if so wanted."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.between.elementwise.gelu_curve import curve, gelu_emitter
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.jit.compilation import TaskFunction
from sparse_rt_kernels.jit.compiler import carray, cgutils, types
from sparse_rt_kernels.jit.llvm import I64
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.parts import part_bounds, worthwhile_parts
from sparse_rt_kernels.vectors import lanes, simd
from sparse_rt_kernels.vectors.loops import each_choice, each_unit, zero
from sparse_rt_kernels.vectors.narrowing import Divisor, to_bytes
from sparse_rt_kernels.vectors.quantisation import BYTE_FIELDS, ByteFields, ByteTensor, byte_fields
from sparse_rt_kernels.vectors.quantised_rows import FIRSTS, QuantisedRows, block_address, row_reader, rows_block
from sparse_rt_kernels.vectors.records import fields_of
from sparse_rt_kernels.vectors.registers import LANES

__all__ = ["prepare_gelu"]

_RECORD = np.dtype(
    [*((name, "i8") for name in ("rows", "parts", "columns", "bias", "block", "curve")), ("scale", "f8"), *BYTE_FIELDS]
)
#: Of one element on one core.
_NANOSECONDS = 0.12


class _Rows(NamedTuple):
    """Rows of x, and where gelu of them goes: ints, or IR i64.

    Attributes
    ----------
    x, y
        Addresses of the first rows.
    bias, block
        Address of the bias; or, if it is not 0, of a :func:`quantised_rows.rows_block`: x is bytes, its bias there.
    rows, columns
        How many.
    curve
        Address of :func:`gelu_curve.curve`.
    """

    x: Any
    y: Any
    bias: Any
    block: Any
    rows: Any
    columns: Any
    curve: Any


#: Stores 4 x 16 results at an address; given how many are left, if it is less.
_Store = Callable[[Any, list[Any], Any], None]


def _each_row(builder: Any, level: int, rows: _Rows, item: int, store: _Store) -> None:
    """Emit ``store(address, results, rest)`` over the units of every row; `item` is the bytes of an output."""
    each_choice(builder, [rows.block], lambda choice: _each_row_of(builder, level, rows, choice, item, store))


def _each_row_of(builder: Any, level: int, given: _Rows, is_quantised: int, item: int, store: _Store) -> None:
    gelu = gelu_emitter(builder, level, given.curve)
    with cgutils.for_range(builder, given.rows) as row:
        first = builder.mul(row.index, given.columns)
        source = builder.add(given.x, builder.mul(first, I64(1 if is_quantised else 4)))
        read = row_reader(builder, source, given.block, is_quantised)

        def unit(at: Any, rest: Any) -> None:
            values = read(at, rest)
            if not is_quantised:
                biases = builder.add(given.bias, builder.mul(at, I64(4)))
                shifts = [lanes.load_floats(builder, biases, lane, rest) for lane in FIRSTS]
                values = [simd.fadd(builder, value, shift) for value, shift in zip(values, shifts, strict=True)]
            store(builder.add(given.y, builder.mul(builder.add(first, at), I64(item))), gelu(values), rest)

        each_unit(builder, given.columns, unit)


@simd.emitter
def _gelu_rows(context: Any, level: Any, rows: Any) -> Any:
    """``y = gelu(x + bias)`` of :class:`_Rows` of float32; `level` is a literal int, that of :mod:`isa`."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        def store(place: Any, results: list[Any], rest: Any) -> None:
            for lane, value in enumerate(results):
                lanes.store_floats(builder, place, lane * LANES, value, rest)

        _each_row(builder, level.literal_value, fields_of(builder, _Rows, given[1]), 4, store)
        return zero()

    return types.intp(level, rows), generate


@simd.emitter
def _gelu_bytes(context: Any, level: Any, rows: Any, scale: Any, fields: Any) -> Any:
    """``y = bytes(gelu(x + bias) / scale)`` as :func:`_gelu_rows`; `fields` are :class:`quantisation.ByteFields`."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, held, scale, after = given
        divisor, after = Divisor(builder, scale), fields_of(builder, ByteFields, after)

        def store(place: Any, results: list[Any], rest: Any) -> None:
            # What is quantised is itself off by more than the product.
            quotients = [divisor.product(builder, value) for value in results]
            lanes.store_bytes(builder, place, to_bytes(builder, level.literal_value, quotients, after), rest)

        _each_row(builder, level.literal_value, fields_of(builder, _Rows, held), 1, store)
        return zero()

    return types.intp(level, rows, types.float32, fields), generate


@functools.cache
def _task(level: int, is_quantised: int) -> TaskFunction:
    """Return the task for a level of :mod:`isa`, to bytes or to floats."""

    def gelu_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
        """Do one part of the rows."""
        r = carray(arguments, (1,), _RECORD)[0]
        first, last = part_bounds(r.rows, 1, task, r.parts)
        at = first * r.columns
        source = x + at if r.block else x + 4 * at
        if is_quantised:
            rows = _Rows(source, out + at, r.bias, r.block, last - first, r.columns, r.curve)
            fields = ByteFields(r.zero_point, r.least, r.most, r.flip)
            return _gelu_bytes(level, rows, np.float32(r.scale), fields)
        return _gelu_rows(level, _Rows(source, out + 4 * at, r.bias, r.block, last - first, r.columns, r.curve))

    return gelu_task


def prepare_gelu(
    rows: int,
    columns: int,
    threads: int,
    bias: NDArray[np.float32] | None = None,
    approximate: bool = False,
    y: ByteTensor | None = None,
    x: QuantisedRows | None = None,
    tier: str | None = None,
) -> Launch:
    """Prepare ``y = v (1 + erf(v / sqrt 2)) / 2`` with v = x + bias: ``launch.run(x, y, pool)``.

    Parameters
    ----------
    rows, columns
        `x` is (rows, columns), C-contiguous, and so is the output, which may be `x` if both are float32.
    threads
        How many threads there are to split the work over.
    bias
        (columns,) float32, copied; None for none. Only one of this and that of `x` may be given.
    approximate
        The form with tanh: ``y = v (1 + tanh(sqrt(2 / pi) (v + 0.044715 v**3))) / 2``.
    y
        What the result is quantised to; None gives float32.
    x
        What `x` stands for if it holds bytes; None for float32.
    tier
        The most specific one whose instructions may be used; see :func:`isa.supported_tiers`.

    Notes
    -----
    The absolute error is below 1e-6 up to |v| = 5, the relative error below 5e-7 beyond. -inf gives 0 or NaN.
    """
    if x is not None and bias is not None:
        if x.bias is not None:
            raise TypeError("gelu: expected one bias, got one beside that of x.")
        x = replace(x, bias=bias)
    biases = np.zeros(columns, np.float32) if bias is None else np.array(bias, np.float32)
    level = isa.level(tier)
    coefficients = curve(approximate, level)
    parts = min(rows, worthwhile_parts(rows * columns * _NANOSECONDS, threads))
    block = rows_block(x, columns)
    fixed = (rows, parts, columns, biases.ctypes.data, block_address(block), coefficients.ctypes.data)
    if y is None:
        record = (*fixed, 1.0, 0, 0, 0, 0)
    else:
        record = (*fixed, y.quantisation.scale, *byte_fields(y.quantisation, y.dtype))
    task = _task(level, int(y is not None))
    return Launch([Phase(task, np.array([record], _RECORD), parts)], keep=(biases, block, coefficients))
