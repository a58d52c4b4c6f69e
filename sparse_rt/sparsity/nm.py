"""N:M sparsity patterns: parse, check, find the first violation, mask.

"2:4" means: of every 4 contiguous input channels at most 2 are nonzero, for every output channel and every kernel
position. Weights are output-channel-first, (n, k) or (K, C, *kernel); groups run along axis 1. Channels that do not
divide by `pattern.m` are treated as if padded with zeros.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt import arguments
from sparse_rt.boundary import public
from sparse_rt.errors import PatternError, message

__all__ = [
    "Pattern",
    "TWO_FOUR",
    "Violation",
    "blocks",
    "parse",
    "find",
    "check",
    "holds",
    "require",
    "magnitude_mask",
    "magnitude_bits",
    "density",
]

#: Elements of a piece of a weight.
_BLOCK = 1 << 20
# Itemsize -> the unsigned integer of that size.
_UNSIGNED: dict[int, np.dtype[Any]] = {np.dtype(t).itemsize: np.dtype(t) for t in "BHIQ"}


@dataclass(frozen=True, slots=True)
class Pattern:
    """At most `n` nonzeros of every `m` contiguous input channels.

    Raises
    ------
    PatternError
        Unless 1 <= n <= m.
    """

    n: int
    m: int

    def __post_init__(self) -> None:
        if not 1 <= self.n <= self.m:
            raise PatternError(message(f"pattern '{self.n}:{self.m}'", "1 <= n <= m", f"n={self.n}, m={self.m}"))

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"


TWO_FOUR = Pattern(2, 4)


@dataclass(frozen=True, slots=True)
class Violation:
    """The first group of a weight that holds more nonzeros than its pattern allows.

    Attributes
    ----------
    row
        Output channel.
    position
        Kernel position; empty for a matrix.
    first, last
        Input channels of the group, both inclusive, counted without the zero padding.
    count
        Nonzeros in the group.
    """

    row: int
    position: tuple[int, ...]
    first: int
    last: int
    count: int

    def __str__(self) -> str:
        if not self.position:
            return f"{self.count} nonzeros in row {self.row}, columns {self.first}..{self.last}"
        at = ", ".join(map(str, self.position))
        return (
            f"{self.count} nonzeros in output channel {self.row}, kernel position ({at}), "
            f"input channels {self.first}..{self.last}"
        )


@public
def parse(text: str) -> Pattern:
    """Return the pattern that `text` names, for example "2:4".

    Raises
    ------
    PatternError
        If `text` names no pattern, or a block or unstructured pattern ("4x1", "16x4", "unstructured"), which are not
        implemented.
    """
    if not isinstance(text, str):
        raise PatternError(message("pattern", "a text such as '2:4'", type(text).__name__))
    where = f"pattern {text!r}"
    if match := re.fullmatch(r"\s*([0-9]{1,6})\s*:\s*([0-9]{1,6})\s*", text):
        return Pattern(int(match[1]), int(match[2]))
    if re.fullmatch(r"\s*[0-9]+x[0-9]+\s*", text) or text.strip() == "unstructured":
        raise PatternError(
            message(where, "an N:M pattern", "a pattern that is not implemented", "Use an N:M pattern such as '2:4'.")
        )
    raise PatternError(message(where, "'<n>:<m>' with whole numbers", "something else", "Write for example '2:4'."))


def magnitude_bits(weight: NDArray[Any]) -> NDArray[Any]:
    """Return unsigned integers that order the elements of `weight` by |w|; 0 for exactly those that equal zero.

    A float's bits without the sign bit order floats by magnitude (IEEE 754), with -0.0 at 0 and NaN above infinity.
    Unlike abs() this is exact for the most negative integer, and fast for float16.

    Raises
    ------
    PatternError
        If the dtype is not boolean, integer, or a float of 16, 32 or 64 bits.
    """
    dtype = arguments.array("weight", weight, PatternError).dtype
    if dtype.kind not in "biuf" or dtype.itemsize not in _UNSIGNED:
        expected = "a boolean, integer, float16, float32 or float64 dtype"
        raise PatternError(message("weight", expected, str(dtype), "Cast it first."))
    unsigned = _UNSIGNED[dtype.itemsize]
    native = np.ascontiguousarray(weight, dtype=dtype.newbyteorder("="))
    unsigned_view: NDArray[Any] = (np.abs(native) if dtype.kind == "i" else native).view(unsigned)
    if dtype.kind != "f":
        return unsigned_view
    without_sign: NDArray[Any] = unsigned_view & unsigned.type(np.iinfo(unsigned).max >> 1)
    return without_sign


def _group_counts(weight: NDArray[Any], m: int) -> NDArray[Any]:
    """Return the nonzeros of each group: (n, ceil(c / m), positions)."""
    _require_axes(weight)
    rows, channels = weight.shape[:2]
    nonzero = magnitude_bits(weight).reshape(rows, channels, _positions(weight)) != 0
    if nonzero.shape[2] == 1:
        nonzero = nonzero[:, :, 0]  # numpy's inner loop then runs over channels, not over one element
    counts = np.zeros((rows, -(-channels // m), *nonzero.shape[2:]), np.min_scalar_type(m))
    for element in range(min(m, channels)):
        part = nonzero[:, element::m]
        counts[:, : part.shape[1]] += part
    return counts.reshape(rows, -(-channels // m), _positions(weight))


def _positions(weight: NDArray[Any]) -> int:
    return int(np.prod(weight.shape[2:], dtype=np.int64))


def _require_pattern(pattern: Pattern) -> None:
    if not isinstance(pattern, Pattern):
        raise PatternError(message("pattern", "a Pattern", type(pattern).__name__, "Write sparsity.parse('2:4')."))


def _require_axes(weight: NDArray[Any]) -> None:
    arguments.array("weight", weight, PatternError)
    if weight.ndim < 2:
        rule = "a matrix (n, k) or a kernel (K, C, ...)"
        raise PatternError(message(f"weight {weight.shape}", rule, f"{weight.ndim} axes", "Reshape it."))


def blocks(weight: NDArray[Any], group: int) -> Iterator[tuple[slice, slice]]:
    """Cut a weight into pieces of about a million elements, in the order in which they lie in memory.

    What is computed piece by piece takes no second copy of a large weight, and what lies in a mapped file is read once.

    Parameters
    ----------
    weight
        (n, k) or (K, C, *kernel), any strides.
    group
        Pieces begin at input channels that are multiples of this.

    Yields
    ------
    Output channels and input channels of the piece; one of the two axes is whole.
    """
    rows, channels = weight.shape[:2]
    everything = slice(None)
    by_channel = channels > 1 and abs(weight.strides[1]) > abs(weight.strides[0])
    length, step = (channels, group) if by_channel else (rows, 1)
    size = max(1, _BLOCK // max(1, weight.size // max(length, 1)) // step) * step
    for first in range(0, length, size):
        part = slice(first, first + size)
        yield (everything, part) if by_channel else (part, everything)


@public
def check(weight: NDArray[Any], pattern: Pattern = TWO_FOUR) -> Violation | None:
    """Return the first violation of `pattern`, or None if `weight` holds it.

    The rule for kernels is that of NVIDIA's guide (K, C, R, S): for every output channel and kernel position. First
    means: lowest output channel, then kernel position, then group. NaN is nonzero; -0.0 is zero.

    Parameters
    ----------
    weight
        (n, k) or (K, C, *kernel), any real dtype, any strides.
    pattern
        N:M.

    Raises
    ------
    PatternError
        If `weight` has fewer than two axes or no real dtype.
    """
    _require_pattern(pattern)
    _require_axes(weight)
    found = None
    for part in blocks(weight, pattern.m):
        first = _first_violation(_group_counts(weight[part], pattern.m), pattern)
        if first is None:
            continue
        row, place, group, count = first
        first = row + (part[0].start or 0), place, group + (part[1].start or 0) // pattern.m, count
        found = first if found is None else min(found, first)
        if part[1] == slice(None):
            break  # later pieces hold later rows
    if found is None:
        return None
    row, place, group, count = found
    return Violation(
        row=row,
        position=tuple(int(i) for i in np.unravel_index(place, weight.shape[2:])) if weight.ndim > 2 else (),
        first=group * pattern.m,
        last=min((group + 1) * pattern.m, weight.shape[1]) - 1,
        count=count,
    )


def _first_violation(counts: NDArray[Any], pattern: Pattern) -> tuple[int, int, int, int] | None:
    """Return row, kernel position, group and nonzeros of the first group that has too many."""
    bad = counts > pattern.n
    if not bad.any():
        return None
    row = int(bad.any(axis=(1, 2)).argmax())
    place, group = (int(i) for i in np.argwhere(bad[row].T)[0])
    return row, place, group, int(counts[row, group, place])


@public
def holds(weight: NDArray[Any], pattern: Pattern = TWO_FOUR) -> bool:
    """Return whether `weight` holds `pattern`; see `check`."""
    return check(weight, pattern) is None


@public
def find(weight: NDArray[Any]) -> Pattern | None:
    """Return the pattern that `weight` holds and that sparse_rt can compress, or None."""
    return TWO_FOUR if holds(weight, TWO_FOUR) else None


@public
def require(weight: NDArray[Any], pattern: Pattern = TWO_FOUR, where: str = "weight") -> None:
    """Raise unless `weight` holds `pattern`.

    Raises
    ------
    PatternError
        With the first offending coordinate, as in ``layer 'fc1' (768, 3072): expected 2:4 along k, got 3 nonzeros in
        row 17, columns 40..43. Prune it first, or leave it dense.``
    """
    violation = check(weight, pattern)
    if violation is not None:
        along = "k" if weight.ndim == 2 else "input channels"
        remedy = "Prune it first, or leave it dense."
        raise PatternError(message(f"{where} {weight.shape}", f"{pattern} along {along}", str(violation), remedy))


@public
def magnitude_mask(weight: NDArray[Any], pattern: Pattern = TWO_FOUR) -> NDArray[np.bool_]:
    """Return the mask that keeps the `pattern.n` largest |w| of each group of `pattern.m` input channels.

    Of equal magnitudes the earlier channel is kept, so that the mask is the same everywhere; NaN outranks infinity and
    stays visible. A last, partial group counts as zero-padded, and keeps min(n, its width) channels.

    Returns
    -------
    ndarray of bool, the shape of `weight`
        True where the weight is kept.

    Raises
    ------
    PatternError
        If `weight` has fewer than two axes or no real dtype.
    """
    _require_pattern(pattern)
    _require_axes(weight)
    mask = np.empty(weight.shape, np.bool_)
    for part in blocks(weight, pattern.m):
        mask[part] = _block_mask(weight[part], pattern)
    return mask


def _block_mask(weight: NDArray[Any], pattern: Pattern) -> NDArray[np.bool_]:
    rows, channels = weight.shape[:2]
    groups, positions = -(-channels // pattern.m), _positions(weight)
    magnitude = magnitude_bits(weight).reshape(rows, channels, positions)
    padded = np.zeros((pattern.m, rows, groups, positions), magnitude.dtype)
    for element in range(min(pattern.m, channels)):
        part = magnitude[:, element :: pattern.m]
        padded[element, :, : part.shape[1]] = part

    # rank = how many elements of the group beat this one; each pair is compared once.
    rank = np.zeros(padded.shape, np.min_scalar_type(pattern.m))
    for later in range(1, pattern.m):
        for earlier in range(later):
            beaten = padded[later] > padded[earlier]
            rank[earlier] += beaten
            rank[later] += ~beaten
    keep = np.moveaxis(rank < pattern.n, 0, 2).reshape(rows, groups * pattern.m, positions)
    return keep[:, :channels].reshape(weight.shape)


@public
def density(weight: NDArray[Any]) -> float:
    """Return nonzeros / all; 0.0 for an empty weight."""
    arguments.array("weight", weight, PatternError)
    return float(np.count_nonzero(weight)) / weight.size if weight.size else 0.0
