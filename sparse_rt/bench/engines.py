"""The engines that a worker process can hold: one model, one set of feeds, ready to run again and again."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import onnxruntime
from numpy.typing import NDArray

from sparse_rt import stock
from sparse_rt.bench.named import named_dense_file
from sparse_rt.session import InferenceSession, SessionOptions

__all__ = ["ENGINES", "Engine", "OnnxRuntime", "Profile", "SparseRuntime", "time_runs"]


@dataclass(frozen=True)
class Profile:
    """A session that notes what its nodes take."""

    run: Callable[[], object]
    end: Callable[[], str]
    """Writes the profile and returns its file."""


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

    def open_profile(self, folder: Path) -> Profile:
        """Return another session of the model, which notes what its nodes take in a file in `folder`."""
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

    def inputs(self) -> list[dict[str, Any]]:
        """Return name, type and shape of each input."""
        return _describe(self._session.get_inputs())

    def set_feeds(self, feeds: dict[str, NDArray[Any]]) -> None:
        """Take the feeds of all later runs, and run once, so that wrong ones are noticed now."""
        self._feeds = stock.known_feeds(self._session, feeds)
        stock.run(self._session, None, self._feeds)

    def run(self) -> None:
        """Compute every output once."""
        self._session.run(None, self._feeds)

    def open_profile(self, folder: Path) -> Profile:
        """Return another session of the model, which notes what its nodes take in a file in `folder`."""
        path = named_dense_file(self._path, folder)
        session = stock.open_session(path, self._threads, where=f"model '{self._path}'", profile=folder / "onnxruntime")
        return Profile(lambda: session.run(None, self._feeds), session.end_profiling)


class SparseRuntime:
    """The InferenceSession of sparse_rt."""

    def __init__(self, path: str, threads: int) -> None:
        self.version = f"sparse_rt {version('sparse-rt')}"
        self._session = InferenceSession(path, SessionOptions(intra_op_num_threads=threads))
        self._path = path
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

    def open_profile(self, folder: Path) -> Profile:
        """Return another session of the model, which notes what its steps take in a file in `folder`."""
        options = self._session.get_session_options()
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "sparse_rt")
        session = InferenceSession(self._path, options)
        return Profile(lambda: session.run(None, self._feeds), session.end_profiling)


ENGINES: dict[str, Callable[[str, int], Engine]] = {"onnxruntime": OnnxRuntime, "sparse_rt": SparseRuntime}


def time_runs(run: Callable[[], object], count: int) -> list[float]:
    """Return the seconds that each of `count` calls took."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times
