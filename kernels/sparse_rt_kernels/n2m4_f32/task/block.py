"""A block of a panel of lanes."""

from typing import NamedTuple

__all__ = ["Block"]


class Block(NamedTuple):
    """One panel block: which image, lanes and octets (8 reduction elements) it holds; where the partial sums begin.

    Beside it 1 or 4 rows are computed, or none (`rest`); `rest_at` is where their part of the scratch begins, and
    `length` how many elements the longest block has.
    """

    image: int
    first_lane: int
    vectors: int
    first_octet: int
    octets: int
    sums_at: int
    rest: int
    rest_at: int
    length: int
