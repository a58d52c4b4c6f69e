"""Numba's compiled functions on disk, kept as this package keeps everything: whole and ours, or absent.

Numba's own cache believes whatever it finds, and fails on what is damaged. This one stands in its place. What Numba
makes of a function can only be kept as a pickle; so it serves where there are no images.
"""

import hashlib
import pickle
from typing import Any

from sparse_rt_kernels.disk import cache_folder

__all__ = ["FunctionCache"]


class FunctionCache:
    """The cache of one function, as Numba's dispatchers and callbacks use it.

    Parameters
    ----------
    key
        The folder; tells all that the code depends on beside the function and its types.
    name, identity
        Of the function, and what tells it from any other one.
    """

    def __init__(self, key: str, name: str, identity: str) -> None:
        self._key = key
        self._function = name
        self._identity = identity

    @property
    def cache_path(self) -> str:
        """The folder, for Numba's statistics."""
        return self._key

    def load_overload(self, signature: Any, target: Any) -> Any:
        """Return the code for a signature as Numba's own object; None where it is not at hand."""
        from numba.core.compiler import CompileResult

        target.refresh()
        content = cache_folder.find(self._key, self._name(signature, target.codegen()))
        if content is None:
            return None
        try:
            return CompileResult._rebuild(target, *pickle.loads(content))
        except Exception:
            # Whole and ours, but this Numba does not understand it: compiled again, and replaced.
            return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep the code that Numba has made for a signature."""
        from numba.core.serialize import dumps

        if result.library.has_dynamic_globals or any(not each.can_cache for each in result.lifted):
            return
        try:
            content = dumps(result._reduce())
        except Exception:
            # It captures what cannot be pickled: the next process compiles again.
            return
        cache_folder.store(self._key, self._name(signature, result.codegen), content)

    def _name(self, signature: Any, codegen: Any) -> str:
        text = repr((self._identity, signature, codegen.magic_tuple()))
        return f"{self._function}-{hashlib.sha256(text.encode()).hexdigest()[:20]}.numba"

    def enable(self) -> None:
        """Do nothing: it always is."""

    def disable(self) -> None:
        """Do nothing: nobody asks."""

    def flush(self) -> None:
        """Do nothing: compiling again makes the same code."""
