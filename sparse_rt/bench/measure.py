"""``bench``: a sparse model against its dense one, honestly."""

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from sparse_rt import arguments
from sparse_rt.bench.layers import compare_profiles
from sparse_rt.bench.machine import cpu_name
from sparse_rt.bench.named import named_dense_model
from sparse_rt.bench.process import EngineProcess
from sparse_rt.bench.report import BenchReport, LayerTiming
from sparse_rt.bench.statistics import ratio_of_medians, summarise
from sparse_rt.bench.turns import Turn, Turns, alternate
from sparse_rt.boundary import public
from sparse_rt.errors import ConfigError, message
from sparse_rt.external import check_regular
from sparse_rt.feeds import random_feeds, write_npz
from sparse_rt.output_file import open_output
from sparse_rt.plan.options import SessionOptions, usable_threads
from sparse_rt.scratch import ScratchFolder
from sparse_rt.stock import ModelSource, name_of

__all__ = ["bench"]

#: Seconds in which a process must load a model; a first load compiles kernels.
_LOAD_TIMEOUT = 900.0
#: Seconds beyond the measured time that a turn may take.
_PATIENCE = 120.0
#: Share of the time that goes to profiles.
_LAYERS_SHARE = 0.4


@dataclass(frozen=True)
class _Input:
    name: str
    type: str
    shape: Sequence[int | str | None]


@public
def bench(
    model: ModelSource,
    reference: ModelSource | None = None,
    *,
    threads: int | None = None,
    batch: int | None = None,
    seconds: float = 10.0,
    feeds: Mapping[str, NDArray[Any]] | None = None,
    seed: int = 0,
    layers: bool = True,
    profile: str | os.PathLike[str] | None = None,
) -> BenchReport:
    """Time a model in sparse_rt and its dense reference in stock onnxruntime, and return their ratio.

    Each engine has a process of its own and the same number of threads; they run in alternating turns, so that
    whatever else the machine does meets both. The models' loading comes before and is not measured.

    Parameters
    ----------
    model
        Path, bytes or ModelProto; compressed or not.
    reference
        The dense model; by default `model` itself, of which onnxruntime makes the dense one while it loads.
    threads
        Of each engine; by default one for each usable CPU.
    batch, seed
        Of random feeds, see :func:`sparse_rt.feeds.random_feeds`.
    seconds
        Wall time of the measurements, exceeded only by the least number of turns.
    feeds
        An array for each input instead of random ones.
    layers
        Whether both engines are profiled as well, layer by layer; that takes 40 % of the time.
    profile
        Where to write the profile of the sparse model, a Chrome trace; None for nowhere.

    Raises
    ------
    SparseRTError
        A model does not load, the feeds do not fit, or an engine's process dies or falls silent.
    ConfigError
        `seconds` or `threads` is out of range.
    """
    _check(model, reference, layers, profile, seconds)
    count = usable_threads() if threads is None else arguments.integer("threads", threads, 1)
    SessionOptions(count)  # refuses too many, before a process of onnxruntime's starts them
    with ExitStack() as stack:
        engines = _open(model, reference or model, count, stack)
        given = _feeds(engines.inputs, feeds, batch, seed)
        engines.feed(given)
        start = time.perf_counter()
        profiles = layers or profile is not None
        turns = engines.alternate("turn", seconds * (1 - _LAYERS_SHARE if profiles else 1.0))
        timings = _time_layers(engines, seconds * _LAYERS_SHARE, profile) if profiles else ()
        return BenchReport(
            model=name_of(model, "model"),
            reference=name_of(model if reference is None else reference, "model"),
            cpu=cpu_name(),
            threads=count,
            engines=engines.versions,
            shapes={name: list(array.shape) for name, array in given.items()},
            seconds=time.perf_counter() - start,
            dense=summarise([run for turn in turns.dense for run in turn]),
            sparse=summarise([run for turn in turns.sparse for run in turn]),
            ratio=ratio_of_medians(turns.dense, turns.sparse),
            layers=timings if layers else (),
        )


def _check(model: ModelSource, reference: ModelSource | None, layers: Any, profile: Any, seconds: Any) -> None:
    """Refuse arguments of :func:`bench` before a process is started for them."""
    arguments.model("model", model)
    if reference is not None:
        arguments.model("reference", reference)
    arguments.flag("layers", layers)
    if profile is not None:
        arguments.path("profile", profile)
    if not isinstance(seconds, int | float | np.integer | np.floating) or not 0 < seconds <= 86400:
        raise ConfigError(message("seconds", "more than 0, at most 86400", repr(seconds)))


@dataclass(frozen=True)
class _Engines:
    """Both engines, each with its model loaded.

    Attributes
    ----------
    dense, sparse
        Their processes.
    reference
        Path of the dense model.
    inputs
        What the sparse model reads: name, type and shape of each.
    versions
        Of both.
    folder
        For files that go with them.
    """

    dense: EngineProcess
    sparse: EngineProcess
    reference: str
    inputs: Sequence[Mapping[str, Any]]
    versions: tuple[str, str]
    folder: Path

    def feed(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        """Give both the same arrays."""
        path = self.folder / "feeds.npz"
        write_npz(path, feeds)
        for engine in (self.dense, self.sparse):
            engine.request("feed", _LOAD_TIMEOUT, path=str(path))

    def alternate(self, command: str, seconds: float) -> Turns:
        """Let both take turns of a command."""
        return alternate(_turn(self.dense, command), _turn(self.sparse, command), seconds)


def _open(model: ModelSource, reference: ModelSource, threads: int, stack: ExitStack) -> _Engines:
    """Start both engines, which last as long as `stack`, and load their models."""
    folder = stack.enter_context(ScratchFolder("bench"))
    paths = [_path(source, folder / f"{name}.onnx") for name, source in (("dense", reference), ("sparse", model))]
    dense = stack.enter_context(EngineProcess("onnxruntime"))
    sparse = stack.enter_context(EngineProcess("sparse_rt"))
    loaded = [
        engine.request("load", _LOAD_TIMEOUT, path=path, threads=threads)
        for engine, path in zip((dense, sparse), paths, strict=True)
    ]
    versions = (loaded[0]["version"], loaded[1]["version"])
    return _Engines(dense, sparse, paths[0], loaded[1]["inputs"], versions, folder)


def _path(model: ModelSource, otherwise: Path) -> str:
    """Return a path that a worker can open."""
    if isinstance(model, bytes | onnx.ModelProto):
        otherwise.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        return str(otherwise)
    check_regular(model, f"model '{os.fspath(model)}'")
    return str(Path(os.fspath(model)).resolve())


def _feeds(
    inputs: Sequence[Mapping[str, Any]], feeds: Mapping[str, NDArray[Any]] | None, batch: int | None, seed: int
) -> dict[str, NDArray[Any]]:
    if feeds is not None:
        return {name: np.asarray(array) for name, array in arguments.feeds("feeds", feeds).items()}
    return random_feeds([_Input(item["name"], item["type"], item["shape"]) for item in inputs], batch, seed)


def _turn(engine: EngineProcess, command: str) -> Turn:
    def take_turn(runs: int) -> Sequence[float]:
        times: Sequence[float] = engine.request(command, _PATIENCE, runs=runs)["times"]
        return times

    return take_turn


def _time_layers(engines: _Engines, seconds: float, profile: str | os.PathLike[str] | None) -> tuple[LayerTiming, ...]:
    """Return the table of layers, from profiles of both engines that run in turns."""
    both = (engines.dense, engines.sparse)
    for engine in both:
        engine.request("open_profile", _LOAD_TIMEOUT, folder=str(engines.folder))
    engines.alternate("profile_turn", seconds)
    theirs, ours = (Path(engine.request("end_profile", _PATIENCE)["file"]) for engine in both)
    if profile is not None:
        _keep(ours, profile)
    return compare_profiles(named_dense_model(engines.reference)[0], theirs, ours)


def _keep(profile: Path, target: str | os.PathLike[str]) -> None:
    """Copy a profile; a half-written one never stands in `target`."""
    with profile.open("rb") as source, open_output(target, where=f"profile '{os.fspath(target)}'") as file:
        shutil.copyfileobj(source, file)
