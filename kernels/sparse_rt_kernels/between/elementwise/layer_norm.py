"""Normalise rows to mean 0 and variance 1, after a residual add and before quantising, if so wanted."""

import functools
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.between.elementwise.quantise import quantise_range
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.jit.compilation import TaskFunction, kernel_jit
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.parts import part_bounds, worthwhile_parts
from sparse_rt_kernels.threads.workspace import as_pointer
from sparse_rt_kernels.vectors.across import fold_sums
from sparse_rt_kernels.vectors.groups import GROUP, GROUP_BYTES, group_rows
from sparse_rt_kernels.vectors.moments import add_rows, normalise_row, squares_about, total_of
from sparse_rt_kernels.vectors.quantisation import BYTE_FIELDS, ByteFields, ByteTensor, byte_fields
from sparse_rt_kernels.vectors.quantised_rows import QuantisedRows, block_address, rows_block

__all__ = ["Norm", "NormOutputs", "prepare_layer_norm"]

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
#: Bytes of 3 numbers for each row of a group: its sum, and from here on its mean and its first element.
_ROW_NUMBERS: Final = 3 * 4 * GROUP
_MEANS: Final = GROUP_BYTES + 4 * GROUP
_FIRSTS: Final = GROUP_BYTES + 8 * GROUP
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


@dataclass(frozen=True, eq=False, slots=True)
class Norm:
    """What normalised rows are multiplied by, and what is added.

    Attributes
    ----------
    gamma, beta
        (columns,) float32; they must not change. What is C-contiguous is not copied.
    epsilon
        Added to the variance, which is that of all elements, not of a sample.
    """

    gamma: NDArray[np.float32]
    beta: NDArray[np.float32]
    epsilon: float


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


@kernel_jit
def _total_rows(a: Any, x: int, other: int, totals: int, rows: int, scratch: int) -> int:
    """Add the residual to a group of rows, or dequantise them, and leave 16 sums and the first element of each."""
    row_bytes, firsts = 4 * a.columns, carray(as_pointer(scratch + _FIRSTS), (GROUP,), np.float32)
    x_row, other_row = a.columns if a.x_block else row_bytes, a.columns if a.other_block else row_bytes
    for row in range(rows):
        here, partial, y = x + row * x_row, scratch + 64 * row, totals + row * row_bytes
        if a.has_residual:
            there = other + row * other_row
            firsts[row] = add_rows(here, there, y, a.columns, partial, a.x_block, a.other_block)
        else:
            firsts[row] = total_of(here, y, a.columns, partial, a.x_block)
    return 0


@kernel_jit
def _finish_row(a: Any, scratch: int, totals: int, y: int, row: int) -> int:
    """Normalise row number `row` of a group to `y`."""
    sums = carray(as_pointer(scratch + GROUP_BYTES), (GROUP,), np.float32)
    means = carray(as_pointer(scratch + _MEANS), (GROUP,), np.float32)
    firsts = carray(as_pointer(scratch + _FIRSTS), (GROUP,), np.float32)
    here = totals + row * 4 * a.columns
    if sums[row] >= a.least_squares and sums[row] <= _MOST_SQUARES:
        factor = np.float32(1 / np.sqrt(sums[row] / np.float32(a.columns) + a.epsilon))
        return normalise_row(here, y, a.columns, a.gamma, a.beta, firsts[row], means[row], factor)
    return _normalise_slowly(here, y, a.columns, a.gamma, a.beta, a.epsilon)


@functools.cache
def _task(level: int) -> TaskFunction:
    """Return the task for a level of :mod:`isa`."""

    def norm_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
        """Normalise one part of the rows, a group at a time.

        Scratch holds 16 sums for each row of the group, the sum, the mean and the first element of each, a row of y,
        and the group's rows of totals (x + residual, or x dequantised): the last two for what is not an output.
        """
        r = carray(arguments, (1,), _RECORD)[0]
        columns, row_bytes, count = r.columns, 4 * r.columns, np.float32(r.columns)
        x_row, other_row = columns if r.x_block else row_bytes, columns if r.other_block else row_bytes
        sums = carray(as_pointer(scratch + GROUP_BYTES), (GROUP,), np.float32)
        means = carray(as_pointer(scratch + _MEANS), (GROUP,), np.float32)
        firsts = carray(as_pointer(scratch + _FIRSTS), (GROUP,), np.float32)
        row_y = scratch + GROUP_BYTES + _ROW_NUMBERS
        fields = ByteFields(r.zero_point, r.least, r.most, r.flip)
        begin, end = part_bounds(r.rows, 1, task, r.parts)
        for first in range(begin, end, r.group):
            rows, at = min(r.group, end - first), first * row_bytes
            totals = x + at
            if r.has_residual or r.x_block:
                totals = out + r.total_at + at if r.total_at >= 0 else row_y + row_bytes
            _total_rows(r, x + first * x_row, other + first * other_row, totals, rows, scratch)
            fold_sums(scratch, scratch + GROUP_BYTES)
            for row in range(rows):
                means[row] = sums[row] / count
                squares_about(totals + row * row_bytes, columns, scratch + 64 * row, firsts[row], means[row])
            fold_sums(scratch, scratch + GROUP_BYTES)
            for row in range(rows):
                y = out + r.y_at + at + row * row_bytes if r.y_at >= 0 else row_y
                _finish_row(r, scratch, totals, y, row)
                if r.quantised_at >= 0:
                    place = out + r.quantised_at + (first + row) * columns
                    quantise_range(level, y, place, columns, np.float32(r.scale), fields)
        return 0

    return norm_task


def prepare_layer_norm(
    rows: int,
    norm: Norm,
    threads: int,
    residual: bool | QuantisedRows = False,
    outputs: NormOutputs = NormOutputs(),  # noqa: B008, immutable
    quantised: ByteTensor | None = None,
    x: QuantisedRows | None = None,
    tier: str | None = None,
) -> Launch:
    """Prepare ``y = (v - mean(v)) / sqrt(var(v) + epsilon) * gamma + beta`` over rows, with v = x or x + other.

    ``launch.run(x, out, pool)``, or ``launch.run(x, out, pool, other=residual)``.

    Parameters
    ----------
    rows
        `x` and `other` are (rows, columns), C-contiguous, float32 unless said otherwise.
    norm
        gamma, beta and epsilon.
    threads
        How many threads there are to split the rows over.
    residual
        Whether `other` is added to `x` first; what it stands for if it holds bytes.
    outputs
        Where what lies from `out` on. The outputs may replace inputs of float32, each at its own place.
    quantised
        What the bytes of ``outputs.quantised`` mean; None where that is None.
    x
        What `x` stands for if it holds bytes; None for float32.
    tier
        The most specific one whose instructions may be used; see :func:`isa.supported_tiers`.

    Notes
    -----
    With e = 2**-23 and v within float32, the error of y is at most
    ``e |gamma| ((|z| + m / s) (c / 4096 + 80) + 4 d / s + 4)`` and a rounding of y, where c are the columns, z is the
    normalised value, s the root of variance and epsilon, m the mean and d the largest distance of an element from the
    first one; d is at most ``2 sqrt(c) s``. It does not grow with the mean:
    a constant row gives beta itself. A row whose squares leave float32 is computed in float64. One that holds NaN or an
    infinity gives NaN all over.
    """
    if (outputs.quantised is not None) != (quantised is not None):
        raise TypeError("layer norm: expected a quantisation if, and only if, outputs.quantised is set.")
    if outputs.total is not None and residual is False:
        raise TypeError("layer norm: expected a residual where outputs.total is set.")
    gamma, beta = (np.ascontiguousarray(one, np.float32) for one in (norm.gamma, norm.beta))
    columns, offsets = gamma.size, [-1 if place is None else place for place in outputs]
    fields: tuple[float, ...] = (1.0, 0, 0, 0, 0)
    if quantised is not None:
        fields = (quantised.quantisation.scale, *byte_fields(quantised.quantisation, quantised.dtype))
    parts = min(rows, worthwhile_parts(rows * (columns * _NANOSECONDS + _ROW_NANOSECONDS), threads))
    blocks = [rows_block(given, columns) for given in (x, residual if isinstance(residual, QuantisedRows) else None)]
    addresses = (gamma.ctypes.data, beta.ctypes.data, residual is not False, *map(block_address, blocks))
    group = group_rows(columns)
    least_squares = _LEAST_SQUARES if norm.epsilon < _LEAST_EPSILON else 0.0
    record = (rows, parts, columns, group, *addresses, *offsets, norm.epsilon, least_squares, *fields)
    phase = Phase(_task(isa.level(tier)), np.array([record], _RECORD), parts)
    return Launch(
        [phase],
        0,
        GROUP_BYTES + _ROW_NUMBERS + 4 * columns * (1 + group),
        keep=(gamma, beta, *blocks),
        constants=addresses[:2],
    )
