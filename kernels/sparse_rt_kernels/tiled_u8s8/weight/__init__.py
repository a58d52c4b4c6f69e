"""Formats of weights that the int8 tiles of any vector width multiply: one file each, and one line in this table."""

from typing import Final

from sparse_rt_kernels.tiled_u8s8.weight.dense import DENSE
from sparse_rt_kernels.tiled_u8s8.weight.n2m4 import N2M4
from sparse_rt_kernels.tiled_u8s8.weight.strategy import Strategy

__all__ = ["STRATEGIES", "number_of"]

#: By number: compiled code is found again by plain ints.
STRATEGIES: Final[tuple[Strategy, ...]] = (DENSE, N2M4)


def number_of(format: str) -> int:
    """Return the number of a format."""
    return [strategy.format for strategy in STRATEGIES].index(format)
