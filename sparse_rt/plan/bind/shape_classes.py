"""What is kept for each shape class that runs have shown, within a bound of memory."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

__all__ = ["MISSING", "ShapeClasses"]

T = TypeVar("T")


class _Missing:
    """The type of :data:`MISSING`."""


#: What :meth:`ShapeClasses.get` returns for a class that is not kept; None may be kept.
MISSING: Final = _Missing()


class ShapeClasses(Generic[T]):
    """Values by shape class; where they take too much memory, the one that was used longest ago goes first.

    Several threads may use it at once.

    Parameters
    ----------
    most_bytes
        How much all of them may take; the one that was used last is kept in any case.
    """

    __slots__ = ("_last", "_lock", "_nbytes", "_total", "_values", "most_bytes")

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._values: OrderedDict[Hashable, T] = OrderedDict()
        self._nbytes: dict[Hashable, int] = {}
        self._total = 0
        self._last: object = MISSING
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    @property
    def nbytes(self) -> int:
        """What all of them take."""
        return self._total

    @property
    def latest(self) -> T | None:
        """The one that was used last."""
        with self._lock:
            return next(reversed(self._values.values()), None)

    def get(self, key: Hashable) -> T | _Missing:
        """Return what is kept for `key`, and note that it was used."""
        found = self._values.get(key, MISSING)
        if found is not self._last and found is not MISSING:
            with self._lock:
                if key in self._values:
                    self._values.move_to_end(key)
                    self._last = found
        return found

    def put(self, key: Hashable, value: T, nbytes: int) -> None:
        """Keep `value`, which takes `nbytes`, in place of what `key` had."""
        with self._lock:
            self._total += nbytes - self._nbytes.pop(key, 0)
            self._nbytes[key] = nbytes
            self._values[key] = value
            self._values.move_to_end(key)
            self._last = value
            while self._total > self.most_bytes and len(self._values) > 1:
                oldest, _ = self._values.popitem(last=False)
                self._total -= self._nbytes.pop(oldest)
