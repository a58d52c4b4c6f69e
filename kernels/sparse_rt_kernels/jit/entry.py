"""Compiled functions of words that Python calls directly, as it calls functions written in C.

Numba's own way in, its dispatcher, would import Numba, and takes longer.
"""

import ctypes
import functools
from collections.abc import Callable
from typing import Any, Final, ParamSpec

from llvmlite import ir

from sparse_rt_kernels.cpu.settings import settings
from sparse_rt_kernels.jit import machine_code
from sparse_rt_kernels.jit.compilation import Compiled, compiled_code
from sparse_rt_kernels.jit.compiler import emitter, external, types
from sparse_rt_kernels.jit.llvm import I64

__all__ = ["as_int", "builtin", "is_available", "kernel_entry"]

P = ParamSpec("P")
#: Of a builtin: (its module or so, address of its arguments, number of arguments) -> new reference.
_WORDS: Final = 3
_FASTCALL: Final = 0x80

_as_word: Any = external("PyLong_AsSsize_t", "intp", "intp")
_failed: Any = external("PyErr_Occurred", "intp")
_release: Any = external("PyEval_SaveThread", "intp")
_acquire: Any = external("PyEval_RestoreThread", "void", "intp")
#: The Python int of a word, as a new reference.
as_int: Any = external("PyLong_FromSsize_t", "intp", "intp")


class _Method(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


def is_available() -> bool:
    """Return whether :func:`builtin` can be called here."""
    return machine_code.is_available() and not settings().is_disabled


def builtin(function: Callable[[int, int, int], int]) -> Any:
    """Return `function`, of arguments as CPython's METH_FASTCALL passes them, as a Python callable."""
    address = compiled_code(function, _WORDS)
    method = _Method(function.__name__.encode(), address, _FASTCALL, None)
    _methods.append(method)
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    return make(ctypes.addressof(method), None, None)


#: What callables point to.
_methods: list[_Method] = []


@emitter
def _words(context: Any, given: Any, count: Any) -> Any:
    """Return `count` Python ints at the address `given` as words."""
    several = types.UniTuple(types.intp, count.literal_value)

    def generate(target: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(I64, [I64])
        convert = builder.module.globals.get("PyLong_AsSsize_t")
        if convert is None:
            convert = ir.Function(builder.module, kind, "PyLong_AsSsize_t")
        places = [builder.add(values[0], I64(8 * number)) for number in range(count.literal_value)]
        objects = [builder.load(builder.inttoptr(place, I64.as_pointer()), typ=I64) for place in places]
        return target.make_tuple(builder, signature.return_type, [builder.call(convert, [each]) for each in objects])

    return several(given, count), generate


def _entry(function: Any, count: int) -> Callable[[int, int, int], int]:
    def entry(own: int, given: int, number: int) -> int:
        if number != count:
            return 0
        words: Any = _words(given, count)
        if _failed() != 0:
            return 0
        state = _release()
        result = function(*words)
        _acquire(state)
        reference: int = as_int(result)
        return reference

    return entry


class _Entry(Compiled[P, int]):
    """A compiled function of words that Python calls."""

    @functools.cached_property
    def _call(self) -> Any:
        if not is_available():
            return self.dispatcher
        return builtin(_entry(self, self.py_func.__code__.co_argcount))

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> int:
        """Call it from Python, without the GIL."""
        result: int = self._call(*args, **kwargs)
        return result


def kernel_entry(function: Callable[P, int]) -> Compiled[P, int]:
    """Compile `function`, of words alone, for calls from Python; otherwise like :func:`kernel_jit`."""
    return _Entry(function)
