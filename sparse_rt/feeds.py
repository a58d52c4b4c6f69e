"""Feeds: random ones that fit a model's declared inputs, and arrays read from and written to ``.npz`` files."""

import math
import os
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sparse_rt import arguments
from sparse_rt.boundary import public
from sparse_rt.errors import FeedError, message
from sparse_rt.external import open_regular
from sparse_rt.output_file import open_output

__all__ = ["DEFAULT_BATCH", "DEFAULT_LENGTH", "DEFAULT_SPATIAL", "Input", "random_feeds", "read_npz", "write_npz"]

#: Sizes of symbolic dimensions unless told otherwise: samples, positions of a sequence, rows or columns of an image.
DEFAULT_BATCH = 1
DEFAULT_LENGTH = 128
DEFAULT_SPATIAL = 224
_DEFAULT_CHANNELS = 3

_TYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(int16)": np.int16,
    "tensor(uint16)": np.uint16,
    "tensor(int32)": np.int32,
    "tensor(uint32)": np.uint32,
    "tensor(int64)": np.int64,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
}

# What exporters call their symbolic dimensions. Looked at before the position, which says less.
_BATCH_NAME = re.compile(r"batch|^(n|b|bs)$|num_?samples", re.IGNORECASE)
_LENGTH_NAME = re.compile(r"seq|len|token|time|^(l|s|t)$", re.IGNORECASE)
_SPATIAL_NAME = re.compile(r"height|width|^(h|w)$", re.IGNORECASE)


class Input(Protocol):
    """One input as a session's ``get_inputs()`` describes it; onnxruntime's ``NodeArg`` is one."""

    @property
    def name(self) -> str:
        """Name of the input."""

    @property
    def shape(self) -> Sequence[int | str | None]:
        """Sizes; a symbolic dimension is its name, or None."""

    @property
    def type(self) -> str:
        """Element type, such as ``tensor(float)``."""


@public
def random_feeds(inputs: Iterable[Input], batch: int | None = None, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Return one random array for each input.

    Symbolic dimensions: a name that says batch, sequence length, height or width, else the first axis of any tensor
    for a batch, the second of a matrix or a 3-D tensor for a length, the last two of a 4-D tensor for an image and its
    second for 3 channels. Batch is `batch`, or 1; lengths are 128, images 224 x 224. One name has one size throughout.

    Values: floats from the standard normal distribution; bool, and integers of which the name says mask, all ones
    (a mask of zeros only would make an attention row NaN); 8-bit integers over their whole range; other integers 0 or
    1, since they may be indexes into a table of unknown length.

    Parameters
    ----------
    inputs
        ``session.get_inputs()``.
    batch
        Size of symbolic batch dimensions; also stands in for a first axis without a telling name.
    seed
        Of NumPy's default generator.

    Raises
    ------
    FeedError
        An input is no dense tensor of numbers, or a symbolic dimension has neither a telling name nor a usual place; an
        input is declared larger than memory can hold.
    """
    if batch is not None:
        batch = arguments.integer("batch", batch, 1, FeedError)
    rng = np.random.default_rng(arguments.integer("seed", seed, 0, FeedError))
    sizes: dict[str, int] = {}
    shapes = [(item, _shape(item, batch or DEFAULT_BATCH, sizes)) for item in inputs]
    left = _memory()
    for item, shape in shapes:
        left -= math.prod(shape) * np.dtype(_dtype(item)).itemsize
        if left < 0:
            remedy = "Give the inputs in an .npz file."
            raise FeedError(message(f"input '{item.name}'", "an array that memory can hold", str(list(shape)), remedy))
    return {item.name: _random(rng, item, shape) for item, shape in shapes}


def _shape(item: Input, batch: int, sizes: dict[str, int]) -> tuple[int, ...]:
    """Return the input's shape with every symbolic dimension chosen; `sizes` remembers the choice for each name."""
    shape = []
    for axis, size in enumerate(item.shape):
        if isinstance(size, int) and size >= 0:
            shape.append(size)
        else:
            name = size if isinstance(size, str) else ""
            chosen = sizes.get(name) or _size(item, axis, name, batch)
            if name:
                sizes[name] = chosen
            shape.append(chosen)
    return tuple(shape)


def _size(item: Input, axis: int, name: str, batch: int) -> int:
    if _BATCH_NAME.search(name):
        return batch
    if _LENGTH_NAME.search(name):
        return DEFAULT_LENGTH
    if _SPATIAL_NAME.search(name):
        return DEFAULT_SPATIAL
    if axis == 0:
        return batch
    rank = len(item.shape)
    if rank in {2, 3} and axis == 1:
        return DEFAULT_LENGTH
    if rank == 4:
        return _DEFAULT_CHANNELS if axis == 1 else DEFAULT_SPATIAL
    raise FeedError(
        message(
            f"input '{item.name}'",
            "a size that can be guessed for every symbolic dimension",
            f"dimension {axis} of {list(item.shape)}",
            "Give the inputs in an .npz file.",
        )
    )


def _dtype(item: Input) -> Any:
    dtype = _TYPES.get(item.type)
    if dtype is None:
        raise FeedError(
            message(
                f"input '{item.name}'",
                "a tensor of numbers to fill at random",
                item.type,
                "Give the inputs in an .npz file.",
            )
        )
    return dtype


def _random(rng: np.random.Generator, item: Input, shape: tuple[int, ...]) -> NDArray[Any]:
    dtype = _dtype(item)
    kind = np.dtype(dtype).kind
    if kind == "f":
        return rng.standard_normal(shape, np.float32).astype(dtype)
    if kind == "b" or "mask" in item.name.lower():
        return np.ones(shape, dtype)
    if np.dtype(dtype).itemsize == 1:
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return rng.integers(0, 2, shape, dtype)


@public
def read_npz(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Return the arrays of an ``.npz`` file by name.

    Raises
    ------
    FeedError
        The file cannot be read, is no ``.npz`` archive, is damaged, or holds Python objects.
    """
    arguments.path("path", path, FeedError)
    where = f"file '{os.fspath(path)}'"
    try:
        # What is no regular file may end never, and an archive is read from its end.
        with os.fdopen(open_regular(path), "rb") as file:
            start = file.read(len(np.lib.format.MAGIC_PREFIX))
        if start == np.lib.format.MAGIC_PREFIX:
            raise FeedError(message(where, "an .npz archive of named arrays", "a single .npy array"))
        if not zipfile.is_zipfile(path):
            raise FeedError(message(where, "an .npz archive of named arrays", "no archive, or half of one"))
        with zipfile.ZipFile(path) as members:
            declared = sum(member.file_size for member in members.infolist())
        if declared > _memory():
            raise FeedError(message(where, "arrays that memory can hold", f"{declared} bytes of them"))
        with np.load(path, allow_pickle=False) as archive:
            return {name: _member(archive[name], f"{where}, array '{name}'") for name in archive.files}
    except FeedError:
        raise
    except OSError as error:
        raise FeedError(message(where, "a readable .npz file", error.strerror or str(error))) from error
    except Exception as error:  # zipfile, its decompressors and NumPy raise a dozen unrelated types
        got = " ".join(str(error).split()) or f"a damaged file ({type(error).__name__})"
        raise FeedError(message(where, "an .npz archive of plain arrays", got)) from error


def _member(found: Any, where: str) -> NDArray[Any]:
    """Return an array of an archive; NumPy gives bytes for what is none."""
    if not isinstance(found, np.ndarray):
        raise FeedError(message(where, "an array in NumPy's format", "something else"))
    return found


def _memory() -> float:
    """Return the bytes of this machine's memory; infinity where it does not tell."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return math.inf


@public
def write_npz(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays so that `path` holds either all of them or what it held before.

    Member names are not restricted; :func:`numpy.savez` would refuse an array named ``file``.

    Raises
    ------
    FeedError
        An array holds Python objects.
    SparseRTError
        The file cannot be written.
    """
    arguments.path("path", path)
    wanted = {name: np.asanyarray(array) for name, array in arguments.feeds("arrays", arrays).items()}
    for name, array in wanted.items():
        if array.dtype.hasobject:
            where = f"file '{os.fspath(path)}', array '{name}'"
            raise FeedError(message(where, "numbers", "Python objects", "Object arrays are not written."))
    with open_output(path) as file, zipfile.ZipFile(file, "w", allowZip64=True) as archive:
        for name, array in wanted.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
