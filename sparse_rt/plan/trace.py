"""A profile of a session's runs, as a Chrome trace: one event a step, onnxruntime's own events inside its islands."""

import json
import os
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt.errors import ConfigError, message
from sparse_rt.plan.hosted.hosted_step import HostedStep
from sparse_rt.plan.islands.onnxruntime_step import OnnxRuntimeStep
from sparse_rt.plan.options import SessionOptions
from sparse_rt.plan.report import LayerReport
from sparse_rt.plan.steps.step import Environment, Step

__all__ = ["Trace"]

#: As onnxruntime: events beyond are dropped.
_MOST_EVENTS: Final = 1_000_000
_ISLAND: Final = "island"
_ONNX_NAMES: Final = {"float32": "float", "float64": "double"}
_NODE_SUFFIX: Final = "_kernel_time"
#: Seconds to wait for a name that no other profile has.
_NEXT_NAME: Final = 1e-3


class Trace:
    """Collects events until :meth:`write`; several threads may add to it.

    Names and arguments are those of onnxruntime's profiles, so that what reads these reads ours: `op_name`,
    `provider`, `input_type_shape`, `output_type_shape`; steps of ours also name their `kernel`.

    Parameters
    ----------
    options
        Of the session. onnxruntime's parts are profiled to files in a folder of this trace's own.
    """

    def __init__(self, options: SessionOptions) -> None:
        self._prefix = options.profile_prefix
        self.options = options.copy()
        """What plans of this session are built with."""
        self._pid = 0
        self._begin_here()
        # What was measured before holds; measurements of profiled runs would not.
        if self.options.tuning_mode == "on":
            self.options.tuning = "cached"
        self.start_ns = time.time_ns()
        """When the trace began, in nanoseconds since the epoch; its events count from here."""

    def step(
        self, step: Step, reports: Mapping[str, LayerReport], values: Environment, pool: ThreadPool, run_options: Any
    ) -> None:
        """Run a step and note what it took."""
        if self._pid != os.getpid():
            self._begin_here()
        read = [_type_shape(values[name]) for name in step.inputs]
        begin = time.time_ns()
        step.run(values, pool, run_options)
        end = time.time_ns()
        written = [_type_shape(values[name]) for name in step.outputs]
        shapes = {"input_type_shape": read, "output_type_shape": written}
        if isinstance(step, OnnxRuntimeStep):
            self._add(f"onnxruntime, {step.nodes} nodes", "Session", begin, end, shapes)
            return
        name = str(getattr(step, "name", step.outputs[0]))
        report = reports.get(name)
        op_type = getattr(step, "op_type", None) or (report.op_type if report else type(step).__name__)
        kernel = getattr(step, "kernel", None)
        known = {"op_name": op_type, "provider": "sparse_rt", "kernel": getattr(kernel, "name", op_type)}
        self._add(name + _NODE_SUFFIX, "Node", begin, end, {**known, **shapes})

    def run(self, begin_ns: int) -> None:
        """Note a whole run, which began at `begin_ns` and ends now."""
        self._add("model_run", "Session", begin_ns, time.time_ns(), {})

    def write(self, steps: Sequence[Step]) -> str:
        """Write the profile, with the events of `steps` that onnxruntime ran, and return the file's name.

        Raises
        ------
        ConfigError
            The file cannot be written.
        """
        events = list(self._events)
        try:
            for step in steps:
                if isinstance(step, OnnxRuntimeStep):
                    events += self._island(step)
        finally:
            _remove(self._folder, self._pid)
        events.sort(key=lambda event: (event["ts"], -event["dur"]))
        content = "[\n" + ",\n".join(map(json.dumps, events)) + "\n]\n"
        while True:
            now = self._now()
            stamp = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(now // 10**9))
            path = f"{self._prefix}_{stamp}_{now // 10**6 % 1000:03d}.json"
            try:
                # Another session's profile, of this millisecond, stays.
                with open(path, "x", encoding="utf-8") as file:
                    file.write(content)
                return path
            except FileExistsError:
                time.sleep(_NEXT_NAME)
            except OSError as error:
                got = f"'{path}': {error.strerror}"
                raise ConfigError(message("session option 'profile_file_prefix'", "a file to write", got)) from error

    def _now(self) -> int:
        return time.time_ns()

    def _begin_here(self) -> None:
        """Let onnxruntime's parts write their profiles to a folder of this process, which goes when the trace does.

        A forked child has one of its own: what it inherited is its parent's.
        """
        self._pid = os.getpid()
        self._events: list[dict[str, Any]] = []
        try:
            self._folder = tempfile.mkdtemp(prefix="sparse_rt-trace-")
        except OSError as error:
            got = f"{error.strerror}: '{error.filename}'" if error.filename else str(error)
            raise ConfigError(message("profile", "a folder for temporary files", got)) from error
        weakref.finalize(self, _remove, self._folder, self._pid)
        self.options.profile_file_prefix = str(Path(self._folder) / _ISLAND)

    def _add(self, name: str, category: str, begin_ns: int, end_ns: int, arguments: dict[str, Any]) -> None:
        if len(self._events) < _MOST_EVENTS:
            self._events.append(
                {
                    "name": name,
                    "cat": category,
                    "ph": "X",
                    "ts": (begin_ns - self.start_ns) / 1e3,
                    "dur": (end_ns - begin_ns) / 1e3,
                    "pid": os.getpid(),
                    "tid": threading.get_native_id(),
                    "args": arguments,
                }
            )

    def _island(self, step: OnnxRuntimeStep) -> list[dict[str, Any]]:
        """Return the events of the nodes of an island that ran since the trace began."""
        if not step.engine.is_open:  # in a forked child that has not run it
            return []
        session = step.engine.session
        shift = (session.get_profiling_start_time_ns() - self.start_ns) / 1e3
        found = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        events = [{**event, "ts": event["ts"] + shift} for event in found if event.get("cat") == "Node"]
        if isinstance(step, HostedStep):
            events = [_of_segment(event, step) for event in events]
        return [event for event in events if event["ts"] >= 0]


def _of_segment(event: dict[str, Any], step: HostedStep) -> dict[str, Any]:
    """Return an event of a hosted plan; of a node that is a segment it says that kernels of ours ran, and which."""
    segment = step.segments.get(event["name"].removesuffix(_NODE_SUFFIX))
    if segment is None:
        return event
    kernels = [getattr(getattr(each, "kernel", None), "name", getattr(each, "op_type", "")) for each in segment.steps]
    return {**event, "args": {**event["args"], "provider": "sparse_rt", "kernel": ", ".join(dict.fromkeys(kernels))}}


def _type_shape(value: Any) -> dict[str, list[int]]:
    """Return ``{"float": [1, 3]}``, as onnxruntime describes a tensor; nothing for sequences."""
    if not isinstance(value, np.ndarray):
        return {}
    return {_ONNX_NAMES.get(value.dtype.name, value.dtype.name): list(value.shape)}


def _remove(folder: str, pid: int) -> None:
    if pid == os.getpid():
        shutil.rmtree(folder, ignore_errors=True)
