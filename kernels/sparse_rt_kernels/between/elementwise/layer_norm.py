"""Normalise rows to mean 0 and variance 1, after a residual add and before quantising, if so wanted."""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.between.elementwise.quantise import quantise_range
from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.parts import part_bounds, worthwhile_parts
from sparse_rt_kernels.threads.workspace import as_pointer
from sparse_rt_kernels.vectors.across import fold_sums
from sparse_rt_kernels.vectors.groups import GROUP, GROUP_BYTES, group_rows
from sparse_rt_kernels.vectors.moments import add_rows, normalise_row, squares_about, total_of
from sparse_rt_kernels.vectors.quantisation import BYTE_FIELDS, Quantisation, byte_fields
from sparse_rt_kernels.vectors.quantised_rows import QuantisedRows, block_address, rows_block

__all__ = ["NormOutputs", "prepare_layer_norm"]

_RECORD = np.dtype(
    [
        *(
            (name, "i8")
            for name in ("rows", "parts", "columns", "group", "gamma", "beta", "has_residual", "x_block", "other_block")
        ),
        *((name, "i8") for name in ("y_at", "total_at", "quantised_at")),
        *((name, "f8") for name in ("epsilon", "least_squares", "scale")),
        *BYTE_FIELDS,
    ]
)
#: Bytes of 3 numbers for each row of a group.
_ROW_NUMBERS: Final = 3 * 4 * GROUP
#: Between these a sum of squares has lost nothing; below, nothing that counts beside this epsilon.
_LEAST_SQUARES, _MOST_SQUARES, _LEAST_EPSILON = 1e-30, 1e38, 1e-20
#: Of one element, and of one row, on one core.
_NANOSECONDS, _ROW_NANOSECONDS = 0.1, 40.0


class NormOutputs(NamedTuple):
    """Where the outputs lie: byte offsets from the launch's `out`; None for what is not wanted.

    Attributes
    ----------
    y
        (rows, columns) float32: the normalised rows.
    total
        (rows, columns) float32: x + residual.
    quantised
        (rows, columns) bytes: `y` quantised.
    """

    y: int | None = 0
    total: int | None = None
    quantised: int | None = None


@kernel_jit
def _normalise_slowly(x: int, y: int, columns: int, gamma: int, beta: int, epsilon: float) -> int:
    """Normalise a row whose squares leave float32, or that holds what is no number, in float64."""
    values, out = carray(as_pointer(x), (columns,), np.float32), carray(as_pointer(y), (columns,), np.float32)
    gammas, betas = carray(as_pointer(gamma), (columns,), np.float32), carray(as_pointer(beta), (columns,), np.float32)
    total = 0.0
    for i in range(columns):
        total += np.float64(values[i])
    mean, squares = total / columns, 0.0
    for i in range(columns):
        squares += (values[i] - mean) ** 2
    root = np.sqrt(squares / columns + epsilon)
    for i in range(columns):
        out[i] = np.float32((values[i] - mean) / root * gammas[i] + betas[i])
    return 0


def _norm_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Normalise one part of the rows, a group at a time.

    Scratch holds 16 sums for each row of the group, the sum, the mean and the first element of each, a row of y, and
    the group's rows of totals (x + residual, or x dequantised): the last two for what is not an output.
    """
    r = carray(arguments, (1,), _RECORD)[0]
    columns, row_bytes, count = r.columns, 4 * r.columns, np.float32(r.columns)
    x_row, other_row = columns if r.x_block else row_bytes, columns if r.other_block else row_bytes
    sums = carray(as_pointer(scratch + GROUP_BYTES), (GROUP,), np.float32)
    means = carray(as_pointer(scratch + GROUP_BYTES + 64), (GROUP,), np.float32)
    firsts = carray(as_pointer(scratch + GROUP_BYTES + 128), (GROUP,), np.float32)
    row_y = scratch + GROUP_BYTES + _ROW_NUMBERS
    begin, end = part_bounds(r.rows, 1, task, r.parts)
    for first in range(begin, end, r.group):
        rows, at = min(r.group, end - first), first * row_bytes
        totals = x + at
        if r.has_residual or r.x_block:
            totals = out + r.total_at + at if r.total_at >= 0 else row_y + row_bytes
        for row in range(rows):
            here, partial, y = x + (first + row) * x_row, scratch + 64 * row, totals + row * row_bytes
            if r.has_residual:
                there = other + (first + row) * other_row
                firsts[row] = add_rows(here, there, y, columns, partial, r.x_block, r.other_block)
            else:
                firsts[row] = total_of(here, y, columns, partial, r.x_block)
        fold_sums(scratch, scratch + GROUP_BYTES)
        for row in range(rows):
            means[row] = sums[row] / count
            squares_about(totals + row * row_bytes, columns, scratch + 64 * row, firsts[row], means[row])
        fold_sums(scratch, scratch + GROUP_BYTES)
        for row in range(rows):
            here = row * row_bytes
            y = out + r.y_at + at + here if r.y_at >= 0 else row_y
            if sums[row] >= r.least_squares and sums[row] <= _MOST_SQUARES:
                factor = np.float32(1 / np.sqrt(sums[row] / count + r.epsilon))
                normalise_row(totals + here, y, columns, r.gamma, r.beta, firsts[row], means[row], factor)
            else:
                _normalise_slowly(totals + here, y, columns, r.gamma, r.beta, r.epsilon)
            if r.quantised_at >= 0:
                place = out + r.quantised_at + (first + row) * columns
                quantise_range(y, place, columns, np.float32(r.scale), r.zero_point, r.least, r.most, r.flip)
    return 0


def prepare_layer_norm(
    rows: int,
    columns: int,
    gamma: NDArray[np.float32],
    beta: NDArray[np.float32],
    epsilon: float,
    threads: int,
    residual: bool | QuantisedRows = False,
    outputs: NormOutputs = NormOutputs(),  # noqa: B008, immutable
    quantised: Quantisation | None = None,
    quantised_dtype: np.dtype[Any] | None = None,
    x: QuantisedRows | None = None,
) -> Launch:
    """Prepare ``y = (v - mean(v)) / sqrt(var(v) + epsilon) * gamma + beta`` over rows, with v = x or x + other.

    ``launch.run(x, out, pool)``, or ``launch.run(x, out, pool, other=residual)``.

    Parameters
    ----------
    rows, columns
        `x` and `other` are (rows, columns), C-contiguous, float32 unless said otherwise.
    gamma, beta
        (columns,) float32; they must not change. What is C-contiguous is not copied.
    epsilon
        Added to the variance, which is that of all elements, not of a sample.
    threads
        How many threads there are to split the rows over.
    residual
        Whether `other` is added to `x` first; what it stands for if it holds bytes.
    outputs
        Where what lies from `out` on. The outputs may replace inputs of float32, each at its own place.
    quantised, quantised_dtype
        What the bytes of ``outputs.quantised`` mean; None where that is None.
    x
        What `x` stands for if it holds bytes; None for float32.

    Notes
    -----
    With e = 2**-23 and v within float32, the error of y is at most
    ``e |gamma| ((|z| + m / s) (c / 4096 + 80) + 4 d / s + 4)`` and a rounding of y, where c are the columns, z is the
    normalised value, s the root of variance and epsilon, m the mean and d the largest distance of an element from the
    first one; d is at most ``2 sqrt(c) s``. It does not grow with the mean:
    a constant row gives beta itself. A row whose squares leave float32 is computed in float64. One that holds NaN or an
    infinity gives NaN all over.
    """
    wants_bytes = outputs.quantised is not None
    if wants_bytes != (quantised is not None) or wants_bytes != (quantised_dtype is not None):
        raise TypeError("layer norm: expected a quantisation and a dtype if, and only if, outputs.quantised is set.")
    if outputs.total is not None and residual is False:
        raise TypeError("layer norm: expected a residual where outputs.total is set.")
    gammas, betas = np.ascontiguousarray(gamma, np.float32), np.ascontiguousarray(beta, np.float32)
    offsets = [-1 if place is None else place for place in outputs]
    fields: tuple[float, ...] = (1.0, 0, 0, 0, 0)
    if quantised is not None and quantised_dtype is not None:
        fields = (quantised.scale, *byte_fields(quantised, quantised_dtype, -np.inf, np.inf))
    parts = min(rows, worthwhile_parts(rows * (columns * _NANOSECONDS + _ROW_NANOSECONDS), threads))
    blocks = [rows_block(given, columns) for given in (x, residual if isinstance(residual, QuantisedRows) else None)]
    addresses = (gammas.ctypes.data, betas.ctypes.data, residual is not False, *map(block_address, blocks))
    group = group_rows(columns)
    least_squares = _LEAST_SQUARES if epsilon < _LEAST_EPSILON else 0.0
    record = (rows, parts, columns, group, *addresses, *offsets, epsilon, least_squares, *fields)
    phase = Phase(_norm_task, np.array([record], _RECORD), parts)
    return Launch(
        [phase],
        0,
        GROUP_BYTES + _ROW_NUMBERS + 4 * columns * (1 + group),
        keep=(gammas, betas, *blocks),
        constants=addresses[:2],
    )
