"""The constant weight of a layer, as it is stored, checked and encoded once for all layers that share it."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from sparse_rt import formats
from sparse_rt.errors import PatternError, message
from sparse_rt.formats import Format, SparseWeight
from sparse_rt.sparsity import Missed, Pattern

__all__ = ["DenseWeight"]

#: Bytes up to which a weight is encoded as it is checked, and stays so: its two passes cost more than its memory.
_SMALL: Final = 1 << 16


class _Found(NamedTuple):
    """The most specific pattern of a weight, and the format that stores it; else why there is none."""

    pattern: Pattern | None
    format: Format | None
    reason: str | None


class DenseWeight:
    """A constant weight in canonical orientation, output channel first. Small ones, and shared ones, are kept encoded.

    Parameters
    ----------
    load
        Returns the weight's elements as stored: a view of the model's tensor where possible.

    Attributes
    ----------
    readers
        How many layers share it.
    """

    __slots__ = ("_compressed", "_density", "_found", "_load", "readers")

    def __init__(self, load: Callable[[], np.ndarray[Any, Any]]) -> None:
        self._load = load
        self._found: _Found | None = None
        self._compressed: SparseWeight | None = None
        self._density: float | None = None
        self.readers = 1

    def array(self) -> np.ndarray[Any, Any]:
        """Return the elements as stored: do not write to them."""
        return self._load()

    def reason(self) -> str | None:
        """Return where the weight breaks every pattern, in words for the user, or None if it holds one."""
        return self._look().reason

    @property
    def pattern(self) -> Pattern | None:
        """What its zeros obey: the most specific pattern that can be stored; None if it holds none."""
        return self._look().pattern

    @property
    def format(self) -> Format | None:
        """What it is stored in; None if it holds no pattern."""
        return self._look().format

    def density(self) -> float:
        """Return nonzeros / all; 0.0 for an empty weight."""
        if self._density is None:
            array, compressed = self._load(), self._compressed
            nonzeros = np.count_nonzero(array) if compressed is None else compressed.nonzeros
            self._density = int(nonzeros) / max(1, array.size)
        return self._density

    def compressed(self, where: str) -> SparseWeight:
        """Return the weight in compressed form; `where` is what errors call it.

        Raises
        ------
        PatternError
            It holds no pattern that can be stored.
        """
        if self._compressed is not None:
            return self._compressed
        found = self._look()
        if found.format is None:
            raise PatternError(message(where, "a pattern that can be stored", str(found.reason)))
        array = self._load()
        encoded = found.format.encode(array, where)
        self._density = encoded.nonzeros / max(1, array.size)
        if self.readers > 1:
            self._compressed = encoded
        return encoded

    def _look(self) -> _Found:
        if self._found is None:
            self._found = self._find()
        return self._found

    def _find(self) -> _Found:
        """Look for patterns, the most specific first, in the formats that take such a weight."""
        array = self._load()
        is_small = array.nbytes <= _SMALL
        reasons = []
        for format in formats.formats_for(array.shape, array.dtype):
            depends = format.nbytes(array.shape, array.dtype) is None
            encoded = format.encode_if_it_holds(array) if is_small or depends else None
            pattern = format.find(array) if encoded is None else encoded.pattern
            if isinstance(pattern, Missed):
                reasons.append(str(pattern))
            elif depends and encoded is not None and encoded.nbytes >= array.nbytes:
                reasons.append(formats.no_smaller(encoded.nbytes, array.nbytes))
            else:
                self._compressed = encoded if is_small else None
                return _Found(pattern, format, None)
        return _Found(None, None, "; ".join(reasons))
