"""Numba and its vocabulary, imported when something is compiled: a process that finds all machine code never does.

Importing Numba takes 0.2 s and 60 MB, and its first use as much time again. Kernels name what they need of it here; the
names stand for Numba's own, for Python as for Numba, which asks an object that it does not know for `_numba_type_`.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any

__all__ = ["Emitter", "carray", "cgutils", "emitter", "external", "numba_type", "types"]


def numba_type(value: Any) -> Any:
    """Return the type that Numba gives a global that functions refer to."""
    from numba.core.registry import cpu_target

    context = cpu_target.typing_context
    try:
        return context.resolve_value_type(value)
    except ValueError:  # made after Numba last looked for new functions
        context.refresh()
        return context.resolve_value_type(value)


class _Late:
    """A module, or a name in one, that is imported when something of it is used."""

    def __init__(self, module: str, name: str = "") -> None:
        self._module = module
        self._name = name

    def _found(self) -> Any:
        module = importlib.import_module(self._module)
        return getattr(module, self._name) if self._name else module

    def __getattr__(self, name: str) -> Any:
        # Whoever copies or pickles one asks for what it does not have.
        if name.startswith("__"):
            raise AttributeError(name)
        return numba_type(self._found()) if name == "_numba_type_" else getattr(self._found(), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._found()(*args, **kwargs)


carray: Any = _Late("numba", "carray")
cgutils: Any = _Late("numba.core.cgutils")
types: Any = _Late("numba.core.types")


class _External(_Late):
    """A C function of the process."""

    def __init__(self, symbol: str, result: str, arguments: tuple[str, ...]) -> None:
        super().__init__("numba.core.types")
        self._signature = symbol, result, arguments

    def _found(self) -> Any:
        module = super()._found()
        symbol, result, arguments = self._signature
        kinds = [getattr(module, argument) for argument in arguments]
        return module.ExternalFunction(symbol, getattr(module, result)(*kinds))


def external(symbol: str, result: str, *arguments: str) -> Any:
    """Return the C function `symbol` for kernels to call; types by the names of :mod:`numba.core.types`."""
    return _External(symbol, result, arguments)


class Emitter:
    """A function that emits machine code where compiled functions call it: an intrinsic of Numba's, once Numba is here.

    It is written as ``function(typing context, *types) -> (signature, codegen)``. Plain integers arrive as literal
    types, so that the code can be unrolled by them.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._meaning: Callable[..., Any] | None = None

    def in_python(self, meaning: Callable[..., Any]) -> Callable[..., Any]:
        """Let it be `meaning` for Python that runs kernels as they are written, under ``NUMBA_DISABLE_JIT``."""
        self._meaning = meaning
        return meaning

    @functools.cached_property
    def _numba_type_(self) -> Any:
        from numba.extending import intrinsic

        return numba_type(intrinsic(prefer_literal=True)(self._function))

    def __call__(self, *args: Any) -> int:
        """Do the same in Python; refuse what exists as machine code alone."""
        if self._meaning is None:
            raise NotImplementedError(f"{self._function.__qualname__} is not usable in pure Python.")
        result: int = self._meaning(*args)
        return result


def emitter(function: Callable[..., Any]) -> Emitter:
    """Make an :class:`Emitter` of `function`."""
    return Emitter(function)
