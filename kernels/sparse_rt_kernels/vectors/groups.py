"""Rows that are reduced together: pass by pass, so that no row's pass waits for the same row's reduction."""

from typing import Final

from sparse_rt_kernels.cpu import caches

__all__ = ["GROUP", "GROUP_BYTES", "group_rows"]

#: Rows of the largest group.
GROUP: Final = 16
#: Of 16 float32 for each of its rows.
GROUP_BYTES: Final = GROUP * 64


def group_rows(columns: int) -> int:
    """Return how many rows of float32 to take together: up to 16, in a quarter of L1."""
    return max(1, min(GROUP, caches.level1_bytes() // 4 // (4 * columns)))
