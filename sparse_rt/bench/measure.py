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
from sparse_rt.bench.turns import Contestant, alternate
from sparse_rt.boundary import public
from sparse_rt.errors import ConfigError, message
from sparse_rt.external import check_regular
from sparse_rt.feeds import random_feeds, write_npz
from sparse_rt.output_file import open_output
from sparse_rt.plan.options import SessionOptions, usable_threads
from sparse_rt.scratch import ScratchFolder
from sparse_rt.stock import ModelSource

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
    arguments.model("model", model)
    if reference is not None:
        arguments.model("reference", reference)
    arguments.flag("layers", layers)
    if profile is not None:
        arguments.path("profile", profile)
    if not isinstance(seconds, int | float | np.integer | np.floating) or not 0 < seconds <= 86400:
        raise ConfigError(message("seconds", "more than 0, at most 86400", repr(seconds)))
    count = usable_threads() if threads is None else arguments.integer("threads", threads, 1)
    SessionOptions(count)  # refuses too many, before a process of onnxruntime's starts them
    with ExitStack() as stack:
        folder = stack.enter_context(ScratchFolder("bench"))
        paths = [
            _path(source, folder / f"{name}.onnx")
            for name, source in (("dense", reference or model), ("sparse", model))
        ]
        dense = stack.enter_context(EngineProcess("onnxruntime"))
        sparse = stack.enter_context(EngineProcess("sparse_rt"))
        loaded = [
            engine.request("load", _LOAD_TIMEOUT, path=path, threads=count)
            for engine, path in zip((dense, sparse), paths, strict=True)
        ]
        given = _feeds(loaded[1]["inputs"], feeds, batch, seed)
        write_npz(folder / "feeds.npz", given)
        for engine in (dense, sparse):
            engine.request("feed", _LOAD_TIMEOUT, path=str(folder / "feeds.npz"))
        start = time.perf_counter()
        profiles = layers or profile is not None
        share = 1 - _LAYERS_SHARE if profiles else 1.0
        turns = alternate(_contestant(dense, "turn"), _contestant(sparse, "turn"), seconds * share)
        whole = summarise([run for turn in turns.sparse for run in turn])
        timings: tuple[LayerTiming, ...] = ()
        if profiles:
            timings = _time_layers(dense, sparse, paths[0], folder, seconds * _LAYERS_SHARE, profile)
        return BenchReport(
            model=_name(model),
            reference=_name(model if reference is None else reference),
            cpu=cpu_name(),
            threads=count,
            engines=(loaded[0]["version"], loaded[1]["version"]),
            shapes={name: list(array.shape) for name, array in given.items()},
            seconds=time.perf_counter() - start,
            dense=summarise([run for turn in turns.dense for run in turn]),
            sparse=whole,
            ratio=ratio_of_medians(turns.dense, turns.sparse),
            layers=timings if layers else (),
        )


def _path(model: ModelSource, otherwise: Path) -> str:
    """Return a path that a worker can open."""
    if isinstance(model, bytes | onnx.ModelProto):
        otherwise.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        return str(otherwise)
    check_regular(model, f"model '{os.fspath(model)}'")
    return str(Path(os.fspath(model)).resolve())


def _name(model: ModelSource) -> str:
    return "model" if isinstance(model, bytes | onnx.ModelProto) else os.fspath(model)


def _feeds(
    inputs: Sequence[Mapping[str, Any]], feeds: Mapping[str, NDArray[Any]] | None, batch: int | None, seed: int
) -> dict[str, NDArray[Any]]:
    if feeds is not None:
        return {name: np.asarray(array) for name, array in arguments.feeds("feeds", feeds).items()}
    return random_feeds([_Input(item["name"], item["type"], item["shape"]) for item in inputs], batch, seed)


def _contestant(engine: EngineProcess, command: str) -> Contestant:
    def take_turn(runs: int) -> Sequence[float]:
        times: Sequence[float] = engine.request(command, _PATIENCE, runs=runs)["times"]
        return times

    return take_turn


def _time_layers(
    dense: EngineProcess,
    sparse: EngineProcess,
    reference: str,
    folder: Path,
    seconds: float,
    profile: str | os.PathLike[str] | None,
) -> tuple[LayerTiming, ...]:
    """Return the table of layers, from profiles of both engines that run in turns."""
    for engine in (dense, sparse):
        engine.request("open_profile", _LOAD_TIMEOUT, folder=str(folder))
    alternate(_contestant(dense, "profile_turn"), _contestant(sparse, "profile_turn"), seconds)
    theirs, ours = (Path(engine.request("end_profile", _PATIENCE)["file"]) for engine in (dense, sparse))
    if profile is not None:
        _keep(ours, profile)
    return compare_profiles(named_dense_model(reference)[0], theirs, ours)


def _keep(profile: Path, target: str | os.PathLike[str]) -> None:
    """Copy a profile; a half-written one never stands in `target`."""
    with profile.open("rb") as source, open_output(target, where=f"profile '{os.fspath(target)}'") as file:
        shutil.copyfileobj(source, file)
