"""Watch onnxruntime make and run the kernels of a model: which nodes there are, and which shapes their inputs take."""

import ctypes
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray
from sparse_rt_kernels.custom_op.frozen_library import Attribute
from sparse_rt_kernels.custom_op.identity import identity
from sparse_rt_kernels.custom_op.words import attribute
from sparse_rt_kernels.threads.workspace import address_of

from sparse_rt.library import operators
from sparse_rt.library.call_block import CallBlock
from sparse_rt.library.describe import attribute_kinds, described
from sparse_rt.library.kernel_block import KernelBlock, Runner
from sparse_rt.library.kernels import runner_of
from sparse_rt.library.node_segment import Refusal
from sparse_rt.library.onnxruntime_api import Api
from sparse_rt.library.path import open_library, written

__all__ = ["Recorded", "Recording", "attributes_of"]

_KINDS: Final = {
    ir.AttributeType.INT: attribute.INT,
    ir.AttributeType.INTS: attribute.INTS,
    ir.AttributeType.FLOAT: attribute.FLOAT,
    ir.AttributeType.FLOATS: attribute.FLOATS,
    ir.AttributeType.STRING: attribute.TEXT,
    ir.AttributeType.TENSOR: attribute.TENSOR,
}


def attributes_of(op_type: str) -> tuple[Attribute, ...]:
    """Return the attributes that tell the nodes of an operator apart, in the order in which they are looked at."""
    return tuple(Attribute(name, _KINDS[kind]) for name, kind in sorted(attribute_kinds(op_type).items()))


@dataclass(eq=False)
class Recorded:
    """A node of a model.

    Attributes
    ----------
    name
        The operator's if it has none.
    number
        Of its operator, in the order of :func:`sparse_rt.library.operators.domains`.
    identity
        What tells it from others; see :mod:`sparse_rt_kernels.custom_op.identity`.
    runner
        What runs it.
    refusal
        Why no kernel of ours does, if none does.
    places
        Which inputs of the node the runner reads.
    dtypes
        Of these.
    shapes
        That these had in runs, those that came first before others.
    """

    name: str
    number: int
    identity: tuple[int, int]
    runner: Runner
    refusal: Refusal | None
    places: tuple[int, ...]
    dtypes: tuple[np.dtype[Any], ...]
    shapes: dict[tuple[tuple[int, ...], ...], None] = field(default_factory=dict)


class _Watched(KernelBlock):
    """A kernel that notes the shapes of its inputs."""

    def __init__(self, library: int, recorded: Recorded) -> None:
        super().__init__(library, recorded.runner, recorded.places, 0)
        self._recorded = recorded

    def prepare(self, shapes: Sequence[tuple[int, ...]], threads: int) -> CallBlock | None:
        """Note the shapes, and prepare the call."""
        self._recorded.shapes.setdefault(tuple(shapes))
        return super().prepare(shapes, threads)


class Recording:
    """A session whose kernels are watched.

    Parameters
    ----------
    model
        Path of a compressed model.

    Raises
    ------
    LookupError
        This system has no machine code that can be kept.
    """

    def __init__(self, model: str) -> None:
        self.nodes: list[Recorded] = []
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        # A library of its own: that of the process makes kernels that nobody watches.
        path = written(operators.domains(), "libsparse_rt-recording")
        with _lock:
            _watching[:] = [self]
            open_library(path, _make)
            options.register_custom_ops_library(path)
            try:
                self.session = ort.InferenceSession(model, options)
            finally:
                _watching.clear()

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        """Run the model; the nodes get the shapes of their inputs."""
        self.session.run(None, dict(feeds))

    def make(self, number: int, library: int, api: Api, info: int) -> KernelBlock:
        """Make the kernel of a node, and watch it."""
        _, op_type = operators.name_of(number)
        node = described(api, info, op_type)
        found = runner_of(node)
        recorded = Recorded(
            node.name or op_type,
            number,
            _identity(api, info, op_type),
            found.runner,
            found.refusal,
            found.places,
            tuple(node.inputs[name].dtype for name in found.runner.inputs),
        )
        self.nodes.append(recorded)
        return _Watched(library, recorded)


def _identity(api: Api, info: int, op_type: str) -> tuple[int, int]:
    looked_at = attributes_of(op_type)
    names = [ctypes.create_string_buffer(each.name.encode()) for each in looked_at]
    words = [(ctypes.addressof(name), each.kind) for name, each in zip(names, looked_at, strict=True)]
    rows: NDArray[np.int64] = np.array([*words, (0, 0)], np.int64)
    found: NDArray[np.int64] = np.zeros(2, np.int64)
    identity(api.address, info, address_of(rows), len(looked_at), address_of(found))
    first, second = found.tolist()
    return first, second


#: The recording whose session is being made.
_watching: list[Recording] = []
_lock = threading.Lock()


def _make(number: int, library: int, api: Api, info: int) -> KernelBlock:
    return _watching[0].make(number, library, api, info)
