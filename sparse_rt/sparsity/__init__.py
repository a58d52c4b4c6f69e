"""Sparsity patterns: what the zeros of a weight obey."""

from sparse_rt.sparsity.nm import (
    TWO_FOUR,
    Pattern,
    Violation,
    blocks,
    check,
    density,
    find,
    holds,
    magnitude_bits,
    magnitude_mask,
    parse,
    require,
)

__all__ = [
    "TWO_FOUR",
    "Pattern",
    "Violation",
    "blocks",
    "check",
    "density",
    "find",
    "holds",
    "magnitude_bits",
    "magnitude_mask",
    "parse",
    "require",
]
