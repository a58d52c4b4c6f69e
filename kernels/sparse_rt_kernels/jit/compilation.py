"""Compile kernels with Numba and keep the machine code on disk under a key that cannot go stale.

The code of tasks and entries, which is what runs, is kept as images that a process loads without Numba. Where there are
no images, and for functions that Python calls through Numba, Numba's own objects are kept (:mod:`numba_cache`).
"""

import functools
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, Final, Generic, ParamSpec, TypeVar, cast

import numpy as np

from sparse_rt_kernels.cpu.settings import compilers, settings
from sparse_rt_kernels.disk import cache_folder
from sparse_rt_kernels.jit import forks, machine_code
from sparse_rt_kernels.jit.compiler import Emitter, numba_type
from sparse_rt_kernels.jit.numba_cache import FunctionCache
from sparse_rt_kernels.jit.object_file import Image, UnknownObjectError, lay_out

__all__ = [
    "TASK_WORDS",
    "Compiled",
    "TaskFunction",
    "cache_key",
    "compiled_code",
    "compiled_image",
    "kernel_arithmetic",
    "kernel_jit",
    "kernel_task",
]

#: What a task is in C: (task, arguments, x, other, out, shared, scratch) -> 0, or else the launch must be repeated in
#: another way. Six addresses follow the task's number: its arguments, one record of the kernel's own; the first array
#: that it reads; the second one, or a table of all but the first (see :class:`launch.Launch`), or 0; the array that it
#: writes; scratch memory that all tasks of a call share; and scratch memory of its thread.
TASK_WORDS: Final = 7
#: A Python function that can be compiled as one.
TaskFunction = Callable[[int, Any, int, int, int, int, int], int]

P = ParamSpec("P")
R = TypeVar("R")
_PACKAGE: Final = __name__.partition(".")[0]


@functools.cache
def cache_key() -> str:
    """Return the name of the cache folder: a hash of all that decides what machine code a kernel becomes.

    Numba's own index looks only at the file that holds the decorated function, so an edited helper or intrinsic in
    another file would run stale code without a word. The key therefore hashes every source file of this package,
    beside the CPU that LLVM compiles for, the compilers' versions and the settings that change what they emit.
    """
    digest = hashlib.sha256()
    root = Path(__file__).parent.parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(path.read_bytes())
    # Numba's index does not tell code with bounds checks from code without.
    digest.update(repr((sys.version, np.__version__, compilers(), settings())).encode())
    return digest.hexdigest()[:20]


class Compiled(Generic[P, R]):
    """A function that Numba compiles when it is called, or when a function that calls it is compiled."""

    def __init__(self, function: Callable[P, R]) -> None:
        functools.update_wrapper(self, function)
        self.py_func = function

    @functools.cached_property
    def dispatcher(self) -> Any:
        """Numba's own form of it, for calls from Python."""
        return _dispatcher(self.py_func, _cache(self.py_func))

    @functools.cached_property
    def _part(self) -> Any:
        """Numba's own form of it, for what is compiled around it."""
        return _dispatcher(self.py_func, None) if _has_images() else self.dispatcher

    @functools.cached_property
    def _numba_type_(self) -> Any:
        return numba_type(self._part)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call it from Python."""
        return cast(R, self.dispatcher(*args, **kwargs))


def kernel_jit(function: Callable[P, R]) -> Compiled[P, R]:
    """Compile `function` in nopython mode on first call, GIL released, machine code cached on disk.

    Integer division and remainder follow NumPy: kernels divide by tile sizes only.
    """
    return Compiled(function)


class _Arithmetic(Compiled[P, R]):
    """A function that kernels call compiled, and Python as it is written."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call it from Python."""
        return self.py_func(*args, **kwargs)


def kernel_arithmetic(function: Callable[P, R]) -> Compiled[P, R]:
    """Compile a few operations on ints for kernels; Python, which plans with them, computes them itself."""
    return _Arithmetic(function)


@functools.cache
def kernel_task(function: TaskFunction) -> int:
    """Return the address of `function` as a C function of :data:`TASK_WORDS`, compiled on first use and cached.

    It is called without the GIL, from threads that Python need not know: it must not raise. Under ``NUMBA_DISABLE_JIT``
    there is no machine code; the address is 0.
    """
    return 0 if settings().is_disabled else compiled_code(function, TASK_WORDS, 1)


def compiled_code(function: Callable[..., int], words: int, pointer: int | None = None) -> int:
    """Return the address of `function` as a C function of so many words, which returns a word.

    That of number `pointer`, if any, is one that Numba knows as an address to :func:`numba.carray` from.
    """
    name = _name(function)
    if name is None:
        return int(_cfunc(function, words, pointer, _cache(function)).address)
    address = _loaded(name)
    if address is None:
        cfunc = _cfunc(function, words, pointer, None)
        address = int(cfunc.address)
        _keep(name, cfunc)
    return address


def compiled_image(function: Callable[..., int], words: int, pointer: int | None = None) -> Image:
    """Return the machine code of what :func:`compiled_code` returns the address of, for libraries.

    Raises
    ------
    LookupError
        There is none: on other systems than x86-64 Linux, where indexes are checked or nothing is compiled, and for
        functions that capture what cannot be told from anything else, or call what images cannot.
    """
    name = None if settings().is_disabled else _name(function)
    image = None
    if name is not None:
        image = _kept(name) or _keep(name, _cfunc(function, words, pointer, None))
    if image is None:
        raise LookupError(f"kernel function '{function.__name__}': expected machine code that can be kept, got none.")
    return image


def _name(function: Callable[..., int]) -> str | None:
    """Return the name of the file that holds a function's image; None if there cannot be one."""
    identity = _known_identity(function) if _has_images() else None
    return identity and f"{function.__name__}-{hashlib.sha256(identity.encode()).hexdigest()[:20]}.image"


def _has_images() -> bool:
    """Return whether tasks and entries are kept as images here."""
    # Bounds checks raise, and an image cannot.
    return machine_code.is_available() and not settings().has_bounds_checks


def _known_identity(function: Callable[..., Any]) -> str | None:
    """Return what tells a function from any other of this package; None for those that cannot be kept."""
    # The key covers this package's sources alone.
    if function.__module__.partition(".")[0] != _PACKAGE:
        return None
    try:
        return _identity(function)
    except TypeError:
        return None


def _identity(value: Any) -> str:
    """Return a text that tells what a function captures from anything else it might capture."""
    if isinstance(value, Compiled | Emitter):
        return _identity(value.__wrapped__)  # type: ignore[union-attr]
    if isinstance(value, FunctionType):
        captured = tuple(cell.cell_contents for cell in value.__closure__ or ())
        return f"{value.__module__}.{value.__qualname__}{_identity((captured, value.__defaults__ or ()))}"
    if isinstance(value, tuple):
        return f"({','.join(map(_identity, value))})"
    if value is None or isinstance(value, bool | int | float | str | bytes | np.generic | np.dtype):
        return f"{type(value).__name__} {value!r}"
    raise TypeError(f"{type(value)} has no identity")


def _loaded(name: str) -> int | None:
    """Return the address of an image that is kept on disk, put into memory."""
    image = _kept(name)
    try:
        return None if image is None else machine_code.load(image)
    except (OSError, MemoryError):  # the compiler will say what is missing, if it misses it, too
        return None


def _kept(name: str) -> Image | None:
    """Return an image that is kept on disk."""
    content = cache_folder.find(cache_key(), name)
    return None if content is None else machine_code.unpack(content)


def _keep(name: str, cfunc: Any) -> Image | None:
    """Keep the machine code that Numba has made of a function, and return it; None if it is no image."""
    try:
        image = lay_out(cfunc._library._get_compiled_object(), cfunc.native_name)
    except (UnknownObjectError, RuntimeError, AttributeError):
        # Another Numba may use LLVM in another way, or hide what it made; the next process compiles again.
        return None
    if not machine_code.can_load(image):
        return None
    cache_folder.store(cache_key(), name, machine_code.pack(image))
    return image


def _cache(function: Callable[..., Any]) -> FunctionCache | None:
    """Return where Numba keeps what it makes of a function; None for functions that cannot be kept."""
    identity = _known_identity(function)
    return None if identity is None else FunctionCache(cache_key(), function.__name__, identity)


def _dispatcher(function: Callable[..., Any], cache: FunctionCache | None) -> Any:
    """Return Numba's form of a function; integer division follows NumPy (no branch for ZeroDivisionError)."""
    forks.refuse_after(_COMPILING, f"kernel function '{function.__name__}'")
    import numba

    dispatcher = numba.njit(nogil=True, error_model="numpy")(function)
    if cache is not None and not settings().is_disabled:
        dispatcher._cache = cache
    return dispatcher


def _cfunc(function: Callable[..., int], words: int, pointer: int | None, cache: FunctionCache | None) -> Any:
    forks.refuse_after(_COMPILING, f"kernel function '{function.__name__}'")
    from numba.core import types
    from numba.core.ccallback import CFunc

    kinds = [types.voidptr if number == pointer else types.intp for number in range(words)]
    # What numba.cfunc makes, which would compile before it could be told of a cache that is not its own.
    cfunc: Any = CFunc(function, (tuple(kinds), types.intp), {}, {"error_model": "numpy"})
    if cache is not None:
        cfunc._cache = cache
    cfunc.compile()
    _cfuncs.append(cfunc)
    return cfunc


#: Functions whose code belongs to Numba; they live as long as their addresses may be used.
_cfuncs: list[Any] = []


def _is_compiling() -> Callable[[CodeType], bool]:
    """Return what tells the code that compiles."""
    is_numba, is_llvm = forks.in_package("numba"), forks.in_package("llvmlite")
    # Python before 3.12 computes a cached property under a lock, one for all objects.
    properties = (vars(Compiled)[name].func for name in ("dispatcher", "_part", "_numba_type_"))
    own = {function.__code__ for function in (compiled_code, compiled_image, _dispatcher, _cfunc, *properties)}
    return lambda code: code in own or is_numba(code) or is_llvm(code)


#: Numba and LLVM compile one function at a time, under locks of the process; a fork waits for the end.
_COMPILING: Final = forks.watch(forks.Activity("compiled a kernel", _is_compiling(), 10.0))
