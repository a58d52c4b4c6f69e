"""The calls of a step, kept by the shapes that they were prepared for."""

from collections.abc import Hashable
from typing import Final, TypeVar

__all__ = ["Calls"]

#: How many a step keeps; a model that meets more shapes prepares again.
_MOST: Final = 64
_Call = TypeVar("_Call")


class Calls(dict[Hashable, _Call]):
    """Prepared calls by threads and shapes. The threads are part of the key since a plan may run on several pools."""

    __slots__ = ()

    def keep(self, key: Hashable, call: _Call) -> _Call:
        """Keep a call, and return it; all others go first if there are too many."""
        if len(self) >= _MOST:
            self.clear()
        self[key] = call
        return call
