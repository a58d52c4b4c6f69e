"""The constant weight of a layer, as it is stored, checked and encoded once for all layers that share it."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from sparse_rt import formats, sparsity
from sparse_rt.formats import CompressedWeight

__all__ = ["DenseWeight"]

#: Bytes up to which a weight is encoded as it is checked, and stays so: its two passes cost more than its memory.
_SMALL: Final = 1 << 16


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

    __slots__ = ("_compressed", "_density", "_load", "_reason", "readers")

    def __init__(self, load: Callable[[], np.ndarray[Any, Any]]) -> None:
        self._load = load
        self._reason: tuple[str | None] | None = None
        self._compressed: CompressedWeight | None = None
        self._density: float | None = None
        self.readers = 1

    def array(self) -> np.ndarray[Any, Any]:
        """Return the elements as stored: do not write to them."""
        return self._load()

    def reason(self) -> str | None:
        """Return where the weight breaks 2:4, in words for the user, or None if it holds."""
        if self._reason is None:
            array = self._load()
            if array.nbytes <= _SMALL:
                self._compressed = formats.encode_if_it_holds(array)
            violation = None if self._compressed is not None else sparsity.check(array)
            self._reason = (None if violation is None else f"not 2:4: {violation}",)
        return self._reason[0]

    def density(self) -> float:
        """Return nonzeros / all; 0.0 for an empty weight."""
        if self._density is None:
            array = self._load() if self._compressed is None else self._compressed.values
            self._density = int(np.count_nonzero(array)) / max(1, self._load().size)
        return self._density

    def compressed(self, where: str) -> CompressedWeight:
        """Return the weight in compressed form; `where` is what errors call it.

        Raises
        ------
        PatternError
            It does not hold 2:4.
        """
        if self._compressed is not None:
            return self._compressed
        array = self._load()
        encoded = formats.encode(array, where)
        self._density = int(np.count_nonzero(encoded.values)) / max(1, array.size)
        if self.readers > 1:
            self._compressed = encoded
        return encoded
