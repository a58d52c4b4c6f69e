"""An engine in a process of its own, driven by one JSON object a line over its pipes."""

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from types import TracebackType
from typing import IO, Any

from sparse_rt.errors import SparseRTError, message

__all__ = ["EngineProcess"]

_WORKER = "sparse_rt.bench.worker"
_STDERR_TAIL = 400


class EngineProcess:
    """A worker process; engines that are compared must not share one, since their thread pools starve each other.

    A fresh interpreter is started, not forked: a fork would inherit thread pools that no longer have threads.

    Parameters
    ----------
    engine
        ``"onnxruntime"`` or ``"sparse_rt"``.
    command
        What to start; by default this interpreter with :mod:`sparse_rt.bench.worker`.
    """

    def __init__(self, engine: str, command: list[str] | None = None) -> None:
        self.engine = engine
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed by close()
        self._process = subprocess.Popen(
            command or [sys.executable, "-m", _WORKER, engine],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, name=f"bench-{engine}", daemon=True).start()

    def _read(self) -> None:
        """Hand lines to whoever waits; a thread, because a pipe cannot be read with a time limit everywhere."""
        pipe = self._process.stdout
        if pipe is not None:
            for line in pipe:
                self._lines.put(line)
        self._lines.put(None)

    def request(self, command: str, timeout: float, **arguments: Any) -> dict[str, Any]:
        """Send one command and return the answer.

        Raises
        ------
        SparseRTError
            The worker reports an error, dies, says something that is no answer, or is silent for `timeout` seconds.
        """
        try:
            if self._process.stdin is None:
                raise BrokenPipeError
            self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._lines.get(timeout=timeout)
        except BrokenPipeError:
            line = None
        except queue.Empty:
            self.close()
            fact = f"none to '{command}' within {timeout:.0f} s"
            raise SparseRTError(message(f"engine {self.engine}", "an answer", fact, "Its process was ended.")) from None
        if line is None:
            raise SparseRTError(message(f"engine {self.engine}", "a running process", self._cause_of_death()))
        try:
            answer = json.loads(line)
        except json.JSONDecodeError as error:
            raise SparseRTError(message(f"engine {self.engine}", "an answer in JSON", repr(line[:80]))) from error
        if "error" in answer:
            raise SparseRTError(f"engine {self.engine}: {answer['error']}")
        return dict(answer)

    def _cause_of_death(self) -> str:
        try:
            code: int | str = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = "unknown"
        self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, self._stderr.tell() - _STDERR_TAIL))
        tail = " ".join(self._stderr.read().decode("utf-8", "replace").split())
        return f"exit status {code}" + (f" and '...{tail}'" if tail else "")

    def close(self) -> None:
        """End the process: politely, by closing its pipe, then by force."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if not self._stderr.closed:
            self._stderr.close()

    def __enter__(self) -> "EngineProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
