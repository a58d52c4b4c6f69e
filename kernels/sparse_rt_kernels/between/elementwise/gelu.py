"""Gelu, after adding a bias or dequantising, and before quantising, if so wanted."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.between.elementwise.gelu_curve import curve, gelu_emitter
from sparse_rt_kernels.jit.compiler import carray, cgutils, types
from sparse_rt_kernels.jit.llvm import I64
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.parts import part_bounds, worthwhile_parts
from sparse_rt_kernels.vectors import lanes, simd
from sparse_rt_kernels.vectors.loops import each_choice, each_unit, zero
from sparse_rt_kernels.vectors.narrowing import Divisor, to_bytes
from sparse_rt_kernels.vectors.quantisation import BYTE_FIELDS, Quantisation, byte_fields
from sparse_rt_kernels.vectors.quantised_rows import FIRSTS, QuantisedRows, block_address, row_reader, rows_block
from sparse_rt_kernels.vectors.registers import LANES

__all__ = ["prepare_gelu"]

_RECORD = np.dtype(
    [*((name, "i8") for name in ("rows", "parts", "columns", "bias", "block", "curve")), ("scale", "f8"), *BYTE_FIELDS]
)
#: Of one element on one core.
_NANOSECONDS = 0.12


def _each_row(builder: Any, given: list[Any], item: int, finish: Callable[[Any, list[Any], Any], None]) -> None:
    """Emit ``finish(address, 4 x 16 results, rest)`` over the units of every row; `item` is the bytes of an output."""
    each_choice(builder, [given[3]], lambda choice: _each_row_of(builder, given, choice, item, finish))


def _each_row_of(
    builder: Any,
    given: list[Any],
    is_quantised: int,
    item: int,
    finish: Callable[[Any, list[Any], Any], None],
) -> None:
    x, y, bias, block, rows, columns, curve = given
    gelu = gelu_emitter(builder, curve)

    def word(value: int) -> Any:
        return I64(value)

    with cgutils.for_range(builder, rows) as row:
        first = builder.mul(row.index, columns)

        source = builder.add(x, builder.mul(first, word(1 if is_quantised else 4)))
        read = row_reader(builder, source, block, is_quantised)

        def unit(at: Any, rest: Any) -> None:
            values = read(at, rest)
            if not is_quantised:
                biases = builder.add(bias, builder.mul(at, word(4)))
                shifts = [lanes.load_floats(builder, biases, lane, rest) for lane in FIRSTS]
                values = [simd.fadd(builder, value, shift) for value, shift in zip(values, shifts, strict=True)]
            finish(builder.add(y, builder.mul(builder.add(first, at), word(item))), gelu(values), rest)

        each_unit(builder, columns, unit)


@simd.emitter
def _gelu_rows(context: Any, x: Any, y: Any, bias: Any, block: Any, rows: Any, columns: Any, curve: Any) -> Any:
    """``y = gelu(x + bias)`` of rows of float32; `curve` is the address of :func:`gelu_curve.curve`.

    If `block` is not 0 but the address of a :func:`quantised_rows.rows_block`, x is bytes and the bias is there.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        def finish(place: Any, results: list[Any], rest: Any) -> None:
            for lane, value in enumerate(results):
                lanes.store_floats(builder, place, lane * LANES, value, rest)

        _each_row(builder, given, 4, finish)
        return zero()

    return types.intp(*[types.intp] * 7), generate


@simd.emitter
def _gelu_bytes(
    context: Any,
    x: Any,
    y: Any,
    bias: Any,
    block: Any,
    rows: Any,
    columns: Any,
    curve: Any,
    scale: Any,
    zero_point: Any,
    least: Any,
    most: Any,
    flip: Any,
) -> Any:
    """``y = bytes(gelu(x + bias) / scale)`` as :func:`_gelu_rows`; the last four are those of `narrowing.to_bytes`."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        divisor = Divisor(builder, given[7])

        def finish(place: Any, results: list[Any], rest: Any) -> None:
            # What is quantised is itself off by more than the product.
            quotients = [divisor.product(builder, value) for value in results]
            lanes.store_bytes(builder, place, to_bytes(builder, quotients, given[8:]), rest)

        _each_row(builder, given[:7], 1, finish)
        return zero()

    return types.intp(*[types.intp] * 7, types.float32, *[types.intp] * 4), generate


def _float_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Do one part of the rows."""
    r = carray(arguments, (1,), _RECORD)[0]
    first, last = part_bounds(r.rows, 1, task, r.parts)
    at = first * r.columns
    source = x + at if r.block else x + 4 * at
    return _gelu_rows(source, out + 4 * at, r.bias, r.block, last - first, r.columns, r.curve)


def _byte_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Do one part of the rows."""
    r = carray(arguments, (1,), _RECORD)[0]
    first, last = part_bounds(r.rows, 1, task, r.parts)
    at = first * r.columns
    return _gelu_bytes(
        x + at if r.block else x + 4 * at,
        out + at,
        r.bias,
        r.block,
        last - first,
        r.columns,
        r.curve,
        np.float32(r.scale),
        r.zero_point,
        r.least,
        r.most,
        r.flip,
    )


def prepare_gelu(
    rows: int,
    columns: int,
    threads: int,
    bias: NDArray[np.float32] | None = None,
    approximate: bool = False,
    y: Quantisation | None = None,
    y_dtype: np.dtype[Any] | None = None,
    x: QuantisedRows | None = None,
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
    y, y_dtype
        What the result is quantised to, int8 or uint8; None gives float32.
    x
        What `x` stands for if it holds bytes; None for float32.

    Notes
    -----
    The absolute error is below 1e-6 up to |v| = 5, the relative error below 5e-7 beyond. -inf gives 0 or NaN.
    """
    if (y is None) != (y_dtype is None):
        raise TypeError("gelu: expected both or neither of y and y_dtype.")
    if x is not None and bias is not None:
        if x.bias is not None:
            raise TypeError("gelu: expected one bias, got one beside that of x.")
        x = replace(x, bias=bias)
    biases = np.zeros(columns, np.float32) if bias is None else np.array(bias, np.float32)
    coefficients = curve(approximate)
    parts = min(rows, worthwhile_parts(rows * columns * _NANOSECONDS, threads))
    block = rows_block(x, columns)
    fixed = (rows, parts, columns, biases.ctypes.data, block_address(block), coefficients.ctypes.data)
    if y is None or y_dtype is None:
        record, task = (*fixed, 1.0, 0, 0, 0, 0), _float_task
    else:
        record, task = (*fixed, y.scale, *byte_fields(y, y_dtype, -np.inf, np.inf)), _byte_task
    return Launch([Phase(task, np.array([record], _RECORD), parts)], keep=(biases, block, coefficients))
