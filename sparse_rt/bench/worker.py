"""``python -m sparse_rt.bench.worker ENGINE``: one engine, one JSON command a line in, one JSON answer a line out."""

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

from sparse_rt.bench.engines import ENGINES, Engine, Profile, time_runs
from sparse_rt.errors import SparseRTError
from sparse_rt.feeds import read_npz

__all__ = ["Worker", "main", "serve"]


class Worker:
    """Answers commands; each command is a method, its arguments are JSON."""

    def __init__(self, engine: str) -> None:
        self._open: Callable[[str, int], Engine] = ENGINES[engine]
        self._engine: Engine | None = None
        self._profile: Profile | None = None
        self._commands: dict[str, Callable[..., dict[str, Any]]] = {
            "load": self.load,
            "feed": self.feed,
            "turn": self.turn,
            "open_profile": self.open_profile,
            "profile_turn": self.profile_turn,
            "end_profile": self.end_profile,
        }

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out one command; an error becomes an answer, too."""
        arguments = {name: value for name, value in request.items() if name != "command"}
        try:
            return self._commands[request["command"]](**arguments)
        except SparseRTError as error:
            return {"error": str(error)}
        except Exception as error:  # the parent prints it; a traceback would only break the protocol
            return {"error": f"{type(error).__name__}: {error}"}

    @property
    def engine(self) -> Engine:
        """The loaded engine."""
        if self._engine is None:
            raise SparseRTError("worker: expected 'load' first, got another command.")
        return self._engine

    def load(self, path: str, threads: int) -> dict[str, Any]:
        """Load a model; return the engine's version and the model's inputs."""
        self._engine = self._open(path, threads)
        return {"version": self._engine.version, "inputs": self._engine.inputs()}

    def feed(self, path: str) -> dict[str, Any]:
        """Take the feeds of an .npz file."""
        self.engine.set_feeds(read_npz(path))
        return {}

    def turn(self, runs: int) -> dict[str, Any]:
        """Return the times of some runs of the model."""
        return {"times": time_runs(self.engine.run, runs)}

    def open_profile(self, folder: str) -> dict[str, Any]:
        """Open a session that notes what its nodes take."""
        self._profile = self.engine.open_profile(Path(folder))
        return {}

    def profile_turn(self, runs: int) -> dict[str, Any]:
        """Return the times of some runs of that session."""
        return {"times": time_runs(self._open_profile.run, runs)}

    def end_profile(self) -> dict[str, Any]:
        """Return the file of the profile, and close its session."""
        file, self._profile = self._open_profile.end(), None
        return {"file": file}

    @property
    def _open_profile(self) -> Profile:
        if self._profile is None:
            raise SparseRTError("worker: expected 'open_profile' first, got another command.")
        return self._profile


def serve(worker: Worker, requests: Iterable[str], answers: IO[str]) -> None:
    """Answer every line of `requests` until they end."""
    for line in requests:
        answers.write(json.dumps(worker.answer(json.loads(line))) + "\n")
        answers.flush()


def main(engine: str) -> None:
    """Serve `engine`, a key of ``ENGINES``, on standard input and output until the input ends."""
    # Whatever a library prints must not end up between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(Worker(engine), sys.stdin, answers)


if __name__ == "__main__":
    main(sys.argv[1])
