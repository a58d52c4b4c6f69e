"""``InferenceSession``: run a model, sparse layers through kernels, everything else through onnxruntime."""

import warnings
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt import arguments
from sparse_rt.boundary import public, raise_ours
from sparse_rt.errors import ConfigError, SparseRTError, SparseRTWarning, message
from sparse_rt.graph.model_io import ModelSource
from sparse_rt.plan.metadata import ModelMetadata
from sparse_rt.plan.options import SessionOptions
from sparse_rt.plan.plan import Plan
from sparse_rt.plan.report import LayerReport, Trial
from sparse_rt.plan.signature import NodeArg
from sparse_rt.plan.steps.step import Environment
from sparse_rt.plan.trace import Trace
from sparse_rt.tuning.tuner import Tuner

__all__ = ["InferenceSession", "LayerReport", "ModelMetadata", "NodeArg", "SessionOptions", "Trial"]

_CPU = "CPUExecutionProvider"


class InferenceSession:
    """Run an ONNX model, compressed or plain; shaped after :class:`onnxruntime.InferenceSession`.

    Several threads may call :meth:`run` at once. A forked child may use its parent's session; see docs/threads.md.

    Parameters
    ----------
    path_or_bytes
        A path, the bytes of a model, or a ModelProto; compressed by sparse_rt, or any model whose weights merely
        happen to be 2:4. It is read once and may change afterwards.
    sess_options
        Threads and the like; by default all CPUs.
    providers
        For callers of onnxruntime: the CPU is the only one.
    provider_options
        Likewise; not read.

    Raises
    ------
    ModelError
        The model cannot be read, is not valid, or holds operators that onnxruntime does not know.
    FormatError
        A compressed weight is corrupt.
    ConfigError
        `sess_options` are not ours, or `providers` leave out the CPU.
    """

    @public
    def __init__(
        self,
        path_or_bytes: ModelSource,
        sess_options: SessionOptions | None = None,
        providers: Sequence[Any] | None = None,
        provider_options: Sequence[Any] | None = None,
    ) -> None:
        arguments.model("path_or_bytes", path_or_bytes)
        _check_providers(providers)
        options = SessionOptions() if sess_options is None else sess_options
        if not isinstance(options, SessionOptions):
            got = f"{type(options).__module__}.{type(options).__name__}"
            raise ConfigError(message("sess_options", "sparse_rt.SessionOptions", got))
        self._options = options.copy()
        settled = self._options.of_now()
        self._pool = ThreadPool(settled.threads)
        self._trace = Trace(settled) if settled.enable_profiling else None
        tuner = Tuner(path_or_bytes, self._trace.options if self._trace else settled, self._pool)
        self._plan: Plan = tuner.plan(path_or_bytes)
        self._unsettled = [] if tuner.is_settled else [tuner]
        self._output_names = [item.name for item in self._plan.signature.outputs]

    def __enter__(self) -> "InferenceSession":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: Any = None,
    ) -> list[Any]:
        """Return the outputs, as arrays that belong to the caller.

        Parameters
        ----------
        output_names
            Outputs in the order wanted; all of them for None.
        input_feed
            An array for each input by name; of any strides, alignment and byte order.
        run_options
            :class:`onnxruntime.RunOptions`, for the parts that onnxruntime runs.

        Raises
        ------
        FeedError
            A feed is missing, unknown, or has the wrong type, rank or size; an output does not exist.
        OperatorError
            An operator failed in onnxruntime; also an instance of the class that onnxruntime raised.
        ForkError
            This is a forked child that cannot open a session of onnxruntime.
        ResourceError
            Memory cannot hold what the feeds need.
        """
        stock = self._plan.stock
        try:
            if stock is not None and self._trace is None and _is_plain(output_names, input_feed):
                # A model that onnxruntime runs alone shall not be slower for us, however small it is.
                try:
                    # Given no names, onnxruntime would collect them in each run.
                    found: list[Any] = stock.session.run(output_names or self._output_names, input_feed, run_options)
                    return found
                except Exception:
                    pass  # raised again below, in our words where it is the caller's mistake
            names = self._plan.signature.output_names(output_names)
            feeds = self._plan.signature.checked(input_feed)
            if self._unsettled:
                self._settle(feeds)
            return self._plan.run(names, feeds, self._pool, run_options, self._trace)
        except SparseRTError:
            raise
        except Exception as error:  # as boundary.public does, which would cost a call
            raise_ours(error, "InferenceSession.run")

    @public
    def end_profiling(self) -> str:
        """Write what runs took, as a Chrome trace, and return the file's name; later runs are not noted.

        A session without ``SessionOptions(enable_profiling=True)``, and one that has ended it, returns an empty string.

        Raises
        ------
        ConfigError
            The file cannot be written.
        """
        trace, self._trace = self._trace, None
        return "" if trace is None else trace.write(self._plan.steps)

    def get_profiling_start_time_ns(self) -> int:
        """Return when the profile began, in nanoseconds since the epoch; 0 where there is none."""
        return 0 if self._trace is None else self._trace.start_ns

    def _settle(self, feeds: Environment) -> None:
        """Let the first run's shapes decide what the declared ones left open; others that run meanwhile do not wait."""
        try:
            tuner = self._unsettled.pop()
        except IndexError:  # another thread's run settles it
            return
        self._plan = tuner.settled(self._plan, feeds)

    def get_inputs(self) -> list[NodeArg]:
        """Return the inputs that must be fed, with symbolic sizes by name."""
        return list(self._plan.signature.inputs)

    def get_outputs(self) -> list[NodeArg]:
        """Return the outputs."""
        return list(self._plan.signature.outputs)

    def get_overridable_initializers(self) -> list[NodeArg]:
        """Return the inputs that have a default."""
        return list(self._plan.signature.overridable)

    def get_modelmeta(self) -> ModelMetadata:
        """Return the model's own description of itself."""
        return self._plan.metadata

    def get_providers(self) -> list[str]:
        """Return what runs the model: the CPU."""
        return [_CPU]

    def get_session_options(self) -> SessionOptions:
        """Return a copy of the session's options."""
        return self._options.copy()

    def explain(self) -> tuple[LayerReport, ...]:
        """Return for each layer its pattern and kernel, why this kernel, or why it stays dense, and what was measured.

        Where sizes of inputs are open, the first run settles it.
        """
        return self._plan.reports

    @property
    def is_settled(self) -> bool:
        """Whether all is decided; else the first run decides, by the sizes that its feeds have."""
        return not self._unsettled

    @property
    def plan(self) -> Plan:
        """The steps that :meth:`run` takes."""
        return self._plan

    @property
    def pool(self) -> ThreadPool:
        """The threads that kernels run on; for running single steps of :attr:`plan`."""
        return self._pool


def _is_plain(output_names: Any, input_feed: Any) -> bool:
    """Return whether onnxruntime reads these arguments as we do: it takes no byte order but its own."""
    if type(input_feed) is not dict:
        return False
    if output_names is not None and (type(output_names) not in (list, tuple) or len(output_names) > 1):
        return False  # names may be twice
    for feed in input_feed.values():  # noqa: SIM110  a generator would cost half of what all of this does
        if type(feed) is not np.ndarray or not feed.dtype.isnative:
            return False
    return True


def _check_providers(providers: Sequence[Any] | None) -> None:
    """Raise unless the CPU is among the providers, warn of any other; each is a name or (name, options)."""
    if providers is None:
        return
    try:
        names = [provider if isinstance(provider, str) else str(provider[0]) for provider in providers]
    except (TypeError, IndexError) as error:
        expected = "a list of names, or of (name, options)"
        raise ConfigError(message("providers", expected, repr(providers))) from error
    if names and _CPU not in names:
        raise ConfigError(message("providers", f"{_CPU!r} among them", repr(names), "sparse_rt runs on the CPU only."))
    others = [name for name in names if name != _CPU]
    if others:
        text = message("providers", f"{_CPU!r} only", repr(names), "The others are ignored.")
        warnings.warn(text, SparseRTWarning, stacklevel=4)
