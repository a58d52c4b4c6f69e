"""Keep onnxruntime from ending the process: its pooling in blocks of channels divides by the size of an empty output.

At its highest level of optimisation onnxruntime (1.17 to 1.32) lays images out in blocks of channels (NCHWc). MaxPool
and AveragePool of floats over two axes then divide by zero (SIGFPE) where an axis of their output is empty: where the
image, pads included, is smaller than the kernel by one stride, but not by two. Elsewhere onnxruntime returns the empty
array, or refuses the image.

Most poolings cannot come to that: their kernel is no larger than stride and pads together. A model that holds another
one is watched: the first run of each set of shapes asks onnxruntime, which only resolves the graph, how large the
images are there. Where nothing is left of them, or nobody can tell, as in branches, onnxruntime runs the model without
such blocks, in a session of its own that is opened then. Only models that hold blocks as operators cannot be run so;
there it is a FeedError.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as native

from sparse_rt.errors import FeedError, message
from sparse_rt.protos import node_lists

__all__ = ["POOLS", "WITHOUT_BLOCKS", "MaybeEmpty", "may_be_empty", "watched"]

#: Arguments of :class:`onnxruntime.InferenceSession`.
WITHOUT_BLOCKS: Final[Mapping[str, Any]] = {"disabled_optimizers": ["NchwcTransformer"]}

#: Names of the operators in question.
POOLS: Final = ("MaxPool", "AveragePool")
#: The domain of operators on blocks, in models that onnxruntime saved.
_BLOCKS: Final = "com.microsoft.nchwc"
_DOMAINS: Final = ("", "ai.onnx", _BLOCKS)
_PAIR: Final = 2
#: Bytes of the largest initializers that may be shapes.
_MOST_SHAPE: Final = 1 << 10
_MOST_VERDICTS: Final = 1 << 12
_FATAL: Final = 4

Shape = Sequence[int | str | None]


class MaybeEmpty(NamedTuple):
    """A pooling over two axes of which some image leaves nothing.

    Attributes
    ----------
    x
        Name of its input.
    bad
        Sizes of an image of which nothing is left, for each axis.
    """

    x: str
    bad: tuple[range, ...]

    @classmethod
    def of(cls, node: onnx.NodeProto) -> "MaybeEmpty | None":
        """Return what is to be watched about a node; None for those that never leave nothing of an image."""
        if node.op_type not in POOLS or node.domain not in _DOMAINS or not node.input:
            return None
        values = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        kernel = tuple(values.get("kernel_shape", ()))
        auto_pad = values.get("auto_pad", b"NOTSET")
        if len(kernel) != _PAIR or auto_pad in (b"SAME_UPPER", b"SAME_LOWER"):
            return None
        pads = values.get("pads", ()) if auto_pad != b"VALID" else ()
        strides, dilations = (values.get(name) or (1,) * _PAIR for name in ("strides", "dilations"))
        pads = pads or (0,) * (2 * _PAIR)
        if (len(strides), len(dilations), len(pads)) != (_PAIR, _PAIR, 2 * _PAIR) or min(strides) < 1:
            return None  # onnxruntime refuses it
        bad = []
        for axis in range(_PAIR):
            reach = dilations[axis] * (kernel[axis] - 1) + 1 - pads[axis] - pads[axis + _PAIR]
            # The image has reach - j pixels: of -j // stride + 1 windows, rounded towards zero, none is left.
            bad.append(range(reach - 2 * strides[axis] + 1, reach - strides[axis] + 1))
        return cls(node.input[0], tuple(bad)) if any(sizes.stop > 1 for sizes in bad) else None

    def empties(self, shape: Shape) -> bool | None:
        """Return whether nothing is left of images (b, c, h, w); None where that is not known."""
        if len(shape) != _PAIR + 2:
            return None
        sizes = shape[2:]
        if any(isinstance(size, int) and size in bad for size, bad in zip(sizes, self.bad, strict=True)):
            return True
        return None if any(not isinstance(size, int) for size in sizes) else False


def may_be_empty(nodes: Iterable[onnx.NodeProto]) -> bool:
    """Return whether a model of these nodes, those of branches and functions included, must be watched."""
    return any(MaybeEmpty.of(node) is not None for node in nodes)


def watched(open_session: Callable[[bool], ort.InferenceSession], source: str | bytes) -> Any:
    """Return a session that does not end the process; onnxruntime's own where nothing has to be watched.

    Parameters
    ----------
    open_session
        Opens one; without blocks of channels, see :data:`WITHOUT_BLOCKS`, if it is given True.
    source
        Path or content of the model, whose external data is not read.
    """
    if isinstance(source, str):
        proto = onnx.load(source, load_external_data=False)
    else:
        proto = onnx.load_model_from_string(source)
    if not may_be_empty(node for nodes in node_lists(proto) for node in nodes):
        return open_session(False)
    pools = [found for node in proto.graph.node if (found := MaybeEmpty.of(node))]
    everywhere = sum(MaybeEmpty.of(node) is not None for nodes in node_lists(proto) for node in nodes)
    if everywhere > len(pools):
        return open_session(True)
    session = open_session(False)
    is_optimised = session.get_session_options().graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    sizes = _Sizes(proto, pools)
    if (not is_optimised and not sizes.are_blocks) or sizes.leave_something({}):
        return session
    return _Watched(session, lambda: open_session(True), sizes)


class _Watched:
    """Stands for onnxruntime's session."""

    def __init__(self, session: ort.InferenceSession, careful: Callable[[], ort.InferenceSession], sizes: "_Sizes"):
        self._session = session
        self._open_careful = careful
        self._sizes = sizes
        self._runs: dict[tuple[Any, ...], Callable[..., Any]] = {}
        self._careful: ort.InferenceSession | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, Any], run_options: Any = None) -> Any:
        """Run what does not end the process."""
        key = tuple([(name, np.shape(feed)) for name, feed in feeds.items()])
        run = self._runs.get(key)
        if run is None:
            if len(self._runs) >= _MOST_VERDICTS:
                self._runs.clear()
            run = self._runs[key] = self._judge(dict(key))
        return run(names, feeds, run_options)

    def _judge(self, shapes: Mapping[str, Shape]) -> Callable[..., Any]:
        run: Callable[..., Any]
        if self._sizes.leave_something(shapes):
            run = self._session.run
            return run
        if self._sizes.are_blocks:
            expected, remedy = "images that its kernel fits into", "onnxruntime might end the process."
            raise FeedError(message("pooling in blocks of channels", expected, "none, or an unknown size", remedy))
        if self._careful is None:
            self._careful = self._open_careful()
        run = self._careful.run
        return run


class _Sizes:
    """How large images are in a model, as onnxruntime infers it.

    Parameters
    ----------
    proto
        Changed.
    pools
        To be watched.
    """

    def __init__(self, proto: onnx.ModelProto, pools: Sequence[MaybeEmpty]) -> None:
        self._pools = pools
        self.are_blocks = any(node.domain == _BLOCKS for node in proto.graph.node)
        self._names = list(dict.fromkeys(pool.x for pool in pools))
        graph = proto.graph
        for tensor in graph.initializer:
            if tensor.data_location != onnx.TensorProto.EXTERNAL and tensor.ByteSize() <= _MOST_SHAPE:
                continue
            dims, kind, name = list(tensor.dims), tensor.data_type, tensor.name
            tensor.Clear()
            tensor.dims.extend(dims)
            tensor.data_type, tensor.name, tensor.data_location = kind, name, onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="sparse_rt")
        # What a model notes beside inner values is not believed.
        del graph.value_info[:], graph.output[:]
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in self._names)
        self._content = proto.SerializeToString()

    def leave_something(self, shapes: Mapping[str, Shape]) -> bool:
        """Return whether feeds of some shapes are known to leave something of every image."""
        found = self._inferred(shapes)
        return all(pool.empties(found.get(pool.x, ())) is False for pool in self._pools)

    def _inferred(self, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
        proto = onnx.load_model_from_string(self._content)
        for value in proto.graph.input:
            if value.name in shapes:
                dims = value.type.tensor_type.shape
                dims.Clear()
                for size in shapes[value.name]:
                    dims.dim.add(dim_value=int(size or 0))
        options = ort.SessionOptions()
        options.log_severity_level = _FATAL
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            # Loaded, not initialised: the graph is resolved, no kernel made.
            session = native.InferenceSession(options, proto.SerializeToString(), False, False)
            return {item.name: tuple(item.shape) for item in session.outputs_meta}
        except Exception:  # onnxruntime says why when it runs
            return {}
