"""What attention is called with: sizes, and where the operands' rows lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sparse_rt_kernels.cpu import caches
from sparse_rt_kernels.threads.parts import worthwhile_parts

__all__ = ["GROUP", "PLACES", "Attention", "Blocks", "Place"]

#: Fields of a record that hold the places of query, key, value, mask and out.
PLACES: Final = [
    (f"{name}_{field}", "i8")
    for name in ("query", "key", "value", "mask", "out")
    for field in ("at", "batch", "head", "row")
]
#: Rows whose scores are computed together: those of the reductions across lanes.
GROUP: Final = 16
#: What laying out keys and values costs a task, in rows of queries.
_LAYOUT_ROWS: Final = 8


@dataclass(frozen=True, slots=True)
class Place:
    """Where the rows of an operand lie: bytes from its array's first element, and from batch to batch and so on.

    The elements of a row follow each other. Strides may be 0.
    """

    at: int
    batch: int
    head: int
    row: int


@dataclass(frozen=True, slots=True)
class Attention:
    """``out[b, h] = softmax(query[b, h] key[b, h]^T * scale + mask[b, h]) value[b, h]``.

    Attributes
    ----------
    batch, heads
        How many independent products there are.
    queries, keys
        Rows (tokens) of query and out, and of key and value.
    size, value_size
        Columns of query and key, and of value and out.
    scale
        Positive.
    query, key, value, mask, out
        Where they lie; mask is None for none.
    """

    batch: int
    heads: int
    queries: int
    keys: int
    size: int
    value_size: int
    scale: float
    query: Place
    key: Place
    value: Place
    out: Place
    mask: Place | None = None

    def places(self) -> Sequence[int]:
        """Return the values of :data:`PLACES`."""
        nowhere = Place(0, 0, 0, 0)
        found = (self.query, self.key, self.value, self.mask or nowhere, self.out)
        return [number for place in found for number in (place.at, place.batch, place.head, place.row)]


@dataclass(frozen=True, slots=True)
class Blocks:
    """How the work is cut.

    Attributes
    ----------
    rows, blocks
        Rows of queries that are worked on with one layout of keys and values, and how many such blocks a head has.
    keys
        Keys that are laid out at a time.
    parts
        Tasks; each has some blocks of some heads.
    """

    rows: int
    blocks: int
    keys: int
    parts: int

    @classmethod
    def of(cls, one: Attention, key_bytes: int, most_rows: int, row_nanoseconds: float, threads: int) -> "Blocks":
        """Choose them.

        Parameters
        ----------
        key_bytes
            Of what is laid out for one key.
        most_rows
            For which there is scratch memory.
        row_nanoseconds
            Of one row of queries on one core.
        """
        heads = one.batch * one.heads
        # What is laid out is read from L2 by every group of rows; a row's scores stay in L1.
        keys = min(caches.level2_bytes() // 4 // key_bytes, caches.level1_bytes() // 2 // (4 * GROUP))
        keys = min(one.keys, max(64, keys // 64 * 64))
        most = -(-one.queries // GROUP)
        least = -(-one.queries // most_rows)
        total = one.queries * heads * row_nanoseconds
        if worthwhile_parts(total, threads) == 1:
            blocks = least
        else:
            blocks = min(
                range(least, max(least, min(most, least + 4 * threads)) + 1), key=lambda n: cls._cost(one, n, threads)
            )
        rows = -(-one.queries // blocks)
        return cls(rows, blocks, keys, min(heads * blocks, worthwhile_parts(total, threads)))

    @staticmethod
    def _cost(one: Attention, blocks: int, threads: int) -> int:
        """Return how many rows the busiest thread has, laying out included."""
        return -(-one.batch * one.heads * blocks // threads) * (-(-one.queries // blocks) + _LAYOUT_ROWS)
