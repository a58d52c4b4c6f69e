"""``python -m benchmarks.library_worker LIBRARY``: onnxruntime with a library, one engine of a comparison."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.registered import open_session
from sparse_rt import stock
from sparse_rt.bench import engines, worker

__all__ = ["WithLibrary"]


class WithLibrary:
    """Stock onnxruntime, every optimisation on, and a library of sparse kernels."""

    def __init__(self, path: str, threads: int, library: str) -> None:
        self.version = f"onnxruntime {ort.__version__} with library {Path(library).name}"
        self._session = open_session(path, threads, library)

    def inputs(self) -> list[dict[str, Any]]:
        """Return nothing: feeds are made from another engine's inputs."""
        return []

    def set_feeds(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        """Take the feeds of the runs to come."""
        self._feeds = stock.known_feeds(self._session, feeds)

    def run(self) -> None:
        """Compute every output once."""
        self._session.run(None, self._feeds)

    def open_profile(self, folder: Path) -> engines.Profile:
        """Refuse: it is timed on whole models only."""
        raise NotImplementedError(f"onnxruntime with a library writes no profile in {folder}")


if __name__ == "__main__":
    engines.ENGINES["library"] = lambda path, threads: WithLibrary(path, threads, sys.argv[1])
    worker.main("library")
