"""What a model takes and gives: names, types and shapes, and the check of feeds against them."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from sparse_rt.errors import FeedError, message
from sparse_rt.graph.model_io import FOUND
from sparse_rt.graph.type_names import ELEMENTS
from sparse_rt.plan.steps.step import Environment

__all__ = ["NodeArg", "Signature", "is_exchangeable", "numpy_dtype"]

_NAMES_OF_ELEMENTS = {int(number): name for name, number in ELEMENTS.items()}
_NUMPY = {
    "float": np.float32,
    "double": np.float64,
    "float16": np.float16,
    "int8": np.int8,
    "uint8": np.uint8,
    "int16": np.int16,
    "uint16": np.uint16,
    "int32": np.int32,
    "uint32": np.uint32,
    "int64": np.int64,
    "uint64": np.uint64,
    "bool": np.bool_,
    "complex64": np.complex64,
    "complex128": np.complex128,
}


@dataclass(frozen=True, slots=True)
class NodeArg:
    """An input or output as onnxruntime's own ``NodeArg`` describes it.

    Attributes
    ----------
    name
        Of the value.
    type
        Such as ``tensor(float)`` or ``seq(tensor(int64))``; empty where unknown.
    shape
        A size, a symbolic name, or None, for each axis; empty where the rank is unknown, or 0.
    has_rank
        Whether `shape` was declared at all.
    """

    name: str
    type: str
    shape: list[int | str | None]
    has_rank: bool = True

    @staticmethod
    def of(value: ir.Value) -> "NodeArg":
        """Describe a value of a graph."""
        shape = None if value.shape is None else [_dimension(size) for size in value.shape]
        found = value.meta.get(FOUND)
        if found is not None:  # an empty list is a scalar, or a rank that onnxruntime does not know
            return NodeArg(found.name, found.type, list(found.shape), bool(found.shape) or shape == [])
        return NodeArg(str(value.name), _type_name(value.type), shape or [], shape is not None)


def _dimension(size: int | ir.SymbolicDim) -> int | str | None:
    return size if isinstance(size, int) else size.value


def _type_name(kind: ir.TypeProtocol | None) -> str:
    if kind is None:
        return ""
    if isinstance(kind, ir.SequenceType | ir.OptionalType):
        outer = "seq" if isinstance(kind, ir.SequenceType) else "optional"
        return f"{outer}({_type_name(kind.elem_type)})"
    outer = "sparse_tensor" if isinstance(kind, ir.SparseTensorType) else "tensor"
    return f"{outer}({_NAMES_OF_ELEMENTS.get(int(kind.dtype), kind.dtype.name.lower())})"


def numpy_dtype(type_name: str) -> np.dtype[Any] | None:
    """Return the NumPy dtype of a tensor type; None for strings, sequences and types that NumPy lacks."""
    found = _NUMPY.get(type_name.removeprefix("tensor(").removesuffix(")"))
    return None if found is None else np.dtype(found)


def is_exchangeable(type_name: str) -> bool:
    """Return whether onnxruntime's Python interface takes and gives values of this type as Python objects."""
    element = type_name.rpartition("(")[2].rstrip(")")
    return element in _NUMPY or element == "string" or not element


@dataclass(frozen=True, eq=False)
class Signature:
    """Inputs and outputs of a model, in order.

    Attributes
    ----------
    inputs
        That must be fed.
    overridable
        Inputs with a default: initializers that the model also lists as inputs.
    outputs
        Outputs.
    """

    inputs: tuple[NodeArg, ...]
    overridable: tuple[NodeArg, ...]
    outputs: tuple[NodeArg, ...]
    # Looked up once: a run of a small layer takes a few microseconds.
    _known: dict[str, NodeArg] = field(init=False, repr=False)
    _output_names: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_known", {item.name: item for item in (*self.inputs, *self.overridable)})
        object.__setattr__(self, "_output_names", tuple(item.name for item in self.outputs))

    @property
    def fed(self) -> frozenset[str]:
        """Names of all that a call may feed."""
        return frozenset(self._known)

    def output_names(self, names: Sequence[str] | None) -> list[str]:
        """Return the outputs that a call asks for; all of them for None or an empty sequence.

        Raises
        ------
        FeedError
            The model has no such output.
        """
        if isinstance(names, str):
            raise FeedError(message("output names", "a list of names", repr(names), f"Write [{names!r}]."))
        try:
            wanted = [] if names is None else list(names)
        except TypeError as error:
            raise FeedError(message("output names", "a list of names", type(names).__name__)) from error
        for name in wanted:
            if not isinstance(name, str) or name not in self._output_names:
                raise FeedError(message("output names", f"names among {list(self._output_names)}", repr(name)))
        if not self._output_names:
            raise FeedError(message("output names", "at least one output", "a model without any"))
        return wanted or list(self._output_names)

    def checked(self, feeds: Mapping[str, Any]) -> Environment:
        """Return the feeds as native, aligned, C-contiguous arrays that fit the declared inputs.

        Raises
        ------
        FeedError
            A feed is missing, unknown, of the wrong type, rank or size.
        """
        if not isinstance(feeds, Mapping):
            raise FeedError(message("feeds", "a dict of arrays by input name", type(feeds).__name__))
        for item in self.inputs:
            if item.name not in feeds:
                missing = [item.name for item in self.inputs if item.name not in feeds]
                raise FeedError(message("feeds", f"the inputs {missing}", f"only {list(feeds)}"))
        known = self._known
        values: Environment = {}
        for name, feed in feeds.items():
            if name not in known:
                raise FeedError(message("feeds", f"input names among {list(known)}", repr(name)))
            values[name] = _checked(known[name], feed)
        return values


def _checked(item: NodeArg, feed: Any) -> Any:
    is_array, dtype = _array_type(item.type)
    if not is_array:
        return feed  # sequences, optionals, OrtValues of a type that NumPy lacks: onnxruntime looks at them itself
    where = f"input '{item.name}'"
    if isinstance(feed, ort.OrtValue):
        feed = feed.numpy()
    if isinstance(feed, list):
        # onnxruntime takes lists, and reads them as the type that the model declares.
        feed = _array_of_list(feed, dtype, where)
    if not isinstance(feed, np.ndarray):
        raise FeedError(message(where, f"an array, {item.type}", type(feed).__name__))
    if dtype is not None and feed.dtype != dtype:
        if feed.dtype.newbyteorder("=") != dtype:
            raise FeedError(message(where, str(dtype), str(feed.dtype), f"Cast it: x.astype(np.{dtype})."))
        feed = feed.astype(dtype)
    _check_shape(item, feed.shape, where)
    if feed.flags.c_contiguous and feed.flags.aligned:
        return feed
    return np.require(feed, requirements=("C", "A"))


@functools.cache
def _array_type(type_name: str) -> tuple[bool, np.dtype[Any] | None]:
    """Return whether values of a type are arrays that we look at, and their dtype."""
    return type_name.startswith("tensor(") and is_exchangeable(type_name), numpy_dtype(type_name)


def _array_of_list(feed: list[Any], dtype: np.dtype[Any] | None, where: str) -> np.ndarray[Any, Any]:
    try:
        return np.array(feed, object if dtype is None else dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise FeedError(message(where, f"a rectangular list of {dtype}", str(error))) from error


def _check_shape(item: NodeArg, shape: tuple[int, ...], where: str) -> None:
    if not item.has_rank:
        return
    if len(shape) != len(item.shape):
        raise FeedError(message(where, f"{len(item.shape)} axes, {item.shape}", f"{len(shape)} axes, {list(shape)}"))
    for axis, (size, declared) in enumerate(zip(shape, item.shape, strict=True)):
        if isinstance(declared, int) and declared != size:
            raise FeedError(
                message(where, f"{declared} elements on axis {axis}, {item.shape}", f"{size}, {list(shape)}")
            )
