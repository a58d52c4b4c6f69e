"""The engines that a worker process can hold: one model, one set of feeds, ready to run again and again."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sparse_rt import stock
from sparse_rt.errors import SparseRTError, message
from sparse_rt.graph import model_io
from sparse_rt.plan.fuse import Fusion
from sparse_rt.plan.prepare import prepare
from sparse_rt.plan.single_layer import cut_layer, fusions_by_output
from sparse_rt.plan.sparse_step import SparseStep
from sparse_rt.session import InferenceSession, SessionOptions

__all__ = ["ENGINES", "Engine", "LayerSpec", "OnnxRuntime", "SparseRuntime", "time_runs"]

_ONNX_NAMES = {"float32": "float", "float64": "double"}


@dataclass(frozen=True)
class LayerSpec:
    """One sparse layer, and what it reads in a run."""

    name: str
    op_type: str
    kernel: str
    y: str
    """Name of the value that it writes, which finds the layer in the dense model."""

    inputs: dict[str, tuple[str, list[int]]]
    """Dtype and shape of each value that it reads."""

    def random_inputs(self) -> dict[str, NDArray[Any]]:
        """Return arrays of these dtypes and shapes; times do not depend on the values."""
        rng = np.random.default_rng(0)
        return {name: _random(rng, np.dtype(dtype), shape) for name, (dtype, shape) in self.inputs.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return what :meth:`from_dict` reads."""
        return asdict(self)

    @staticmethod
    def from_dict(document: Mapping[str, Any]) -> "LayerSpec":
        """Return the layer that :meth:`to_dict` described."""
        inputs = {name: (str(dtype), list(shape)) for name, (dtype, shape) in document["inputs"].items()}
        return LayerSpec(document["name"], document["op_type"], document["kernel"], document["y"], inputs)


def _random(rng: np.random.Generator, dtype: np.dtype[Any], shape: list[int]) -> NDArray[Any]:
    if dtype.kind == "f":
        return rng.standard_normal(shape, np.float32).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


class Engine(Protocol):
    """A loaded model."""

    version: str

    def inputs(self) -> list[dict[str, Any]]:
        """Return name, type and shape of each input."""
        ...

    def set_feeds(self, feeds: dict[str, NDArray[Any]]) -> None:
        """Take the feeds of all later runs."""
        ...

    def run(self) -> None:
        """Compute every output once."""
        ...

    def layers(self) -> list[LayerSpec]:
        """Return the layers that run sparse."""
        ...

    def open_layer(self, layer: LayerSpec) -> Callable[[], object]:
        """Return a call that computes this layer alone, on random inputs."""
        ...


def _describe(arguments: list[Any]) -> list[dict[str, Any]]:
    return [{"name": item.name, "type": item.type, "shape": list(item.shape)} for item in arguments]


class OnnxRuntime:
    """Stock onnxruntime, every optimisation on."""

    def __init__(self, path: str, threads: int) -> None:
        self.version = f"onnxruntime {onnxruntime.__version__}"
        self._path = path
        self._threads = threads
        self._session = stock.open_session(path, threads, where=f"model '{path}'")
        self._feeds: dict[str, NDArray[Any]] = {}
        self._fusions: dict[str, Fusion] | None = None

    def inputs(self) -> list[dict[str, Any]]:
        """Return name, type and shape of each input."""
        return _describe(self._session.get_inputs())

    def set_feeds(self, feeds: dict[str, NDArray[Any]]) -> None:
        """Take the feeds of all later runs, and run once, so that wrong ones are noticed now."""
        names = {item.name for item in self._session.get_inputs()}
        self._feeds = {name: array for name, array in feeds.items() if name in names}
        stock.run(self._session, None, self._feeds)

    def run(self) -> None:
        """Compute every output once."""
        self._session.run(None, self._feeds)

    def layers(self) -> list[LayerSpec]:
        """Return nothing: no layer runs sparse here."""
        return []

    def open_layer(self, layer: LayerSpec) -> Callable[[], object]:
        """Return a call that computes this layer alone, as onnxruntime does when it fuses the same neighbours."""
        if self._fusions is None:
            self._model = prepare(model_io.read(self._path))
            self._fusions = fusions_by_output(self._model)
        fusion = self._fusions.get(layer.y)
        # A DynamicQuantizeMatMul reads floats here, and is two steps in the plan.
        if fusion is None or str(fusion.x.name) not in layer.inputs:
            raise SparseRTError(message(f"layer '{layer.name}'", "the same layer in the dense model", "none"))
        kinds = {name: (_onnx_name(dtype), shape) for name, (dtype, shape) in layer.inputs.items()}
        island = cut_layer(self._model, fusion, kinds)
        session = stock.open_session(island.model, self._threads, where=f"layer '{layer.name}'")
        feeds = {name: array for name, array in layer.random_inputs().items() if name in island.inputs}
        stock.run(session, None, feeds)
        return lambda: session.run(None, feeds)


def _onnx_name(dtype: str) -> str:
    return f"tensor({_ONNX_NAMES.get(dtype, dtype)})"


class SparseRuntime:
    """The InferenceSession of sparse_rt."""

    def __init__(self, path: str, threads: int) -> None:
        self.version = f"sparse_rt {version('sparse-rt')}"
        self._session = InferenceSession(path, SessionOptions(intra_op_num_threads=threads))
        self._steps = {step.y: step for step in self._session.plan.steps if isinstance(step, SparseStep)}
        self._feeds: dict[str, NDArray[Any]] = {}

    def inputs(self) -> list[dict[str, Any]]:
        """Return name, type and shape of each input."""
        return _describe(self._session.get_inputs())

    def set_feeds(self, feeds: dict[str, NDArray[Any]]) -> None:
        """Take the feeds of all later runs."""
        self._feeds = feeds

    def run(self) -> None:
        """Compute every output once."""
        self._session.run(None, self._feeds)

    def layers(self) -> list[LayerSpec]:
        """Return the layers that run sparse, with the shapes that they have in a run of the feeds."""
        plan = self._session.plan
        op_types = {report.name: report.op_type for report in plan.reports}
        values = {**plan.constants, **plan.signature.checked(self._feeds)}
        found = []
        for step in plan.steps:
            step.run(values, self._session.pool)
            if isinstance(step, SparseStep):
                inputs = {name: (values[name].dtype.name, list(values[name].shape)) for name in step.inputs}
                found.append(LayerSpec(step.name, op_types.get(step.name, ""), step.kernel.name, step.y, inputs))
        return found

    def open_layer(self, layer: LayerSpec) -> Callable[[], object]:
        """Return a call that computes this layer's step alone."""
        step = self._steps[layer.y]
        values, pool = layer.random_inputs(), self._session.pool
        return lambda: step.run(values, pool)


ENGINES: dict[str, Callable[[str, int], Engine]] = {"onnxruntime": OnnxRuntime, "sparse_rt": SparseRuntime}


def time_runs(run: Callable[[], object], count: int) -> list[float]:
    """Return the seconds that each of `count` calls took."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times
