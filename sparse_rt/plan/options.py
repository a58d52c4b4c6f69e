"""Options of a session."""

import itertools
import math
import os
from collections.abc import Mapping
from typing import Any

import onnxruntime as ort
from sparse_rt_kernels.cpu.allowance import is_limited, usable_threads
from sparse_rt_kernels.cpu.settings import settings

from sparse_rt.boundary import public
from sparse_rt.errors import ConfigError, message
from sparse_rt.plan.option_rules import (
    MOST_THREADS,
    OWN,
    PASSED_ON,
    REFUSED,
    TUNING,
    check_tier,
    check_tuning,
    is_integer,
    unknown_option,
)

__all__ = ["TUNING", "TUNING_VARIABLE", "SessionOptions", "usable_threads"]

#: Environment variable for sessions whose options say None.
TUNING_VARIABLE = "SPARSE_RT_TUNING"
_DEFAULT_TUNING = "on"
_DEFAULT_TUNING_SECONDS = 2.0

#: Numbers for the names of onnxruntime's profiles, which end in the second at which they begin.
_profiles = itertools.count(1)


class SessionOptions:
    """How a session runs: onnxruntime's own options by their names, given by keyword or set as attributes.

    Beside those below, every other attribute of :class:`onnxruntime.SessionOptions`, and its session config entries,
    are taken and handed to the parts of the model that onnxruntime runs. Refused is what would promise something of
    the whole model that holds of those parts only: the optimised model as a file.

    Parameters
    ----------
    intra_op_num_threads
        Threads of one operator, at most 4096; 0 takes every CPU that the process may use, by its affinity and by the
        quota of its control group, when a session is made.
    graph_optimization_level
        onnxruntime's, for the parts that it runs.
    log_severity_level
        onnxruntime's: 0 verbose, 1 info, 2 warning, 3 error, 4 fatal.
    kernel_tier
        The most specific tier of sparse kernels to use: "avx512vnni", "avx512", "avx2vnni", "avx2" or "generic". None
        takes that of the environment variable ``SPARSE_RT_TIER``, else the best that the CPU can run.
    tuning
        How it is decided whether a layer that a sparse kernel fits runs on it, on a dense kernel, or in onnxruntime.
        ``"on"``: by measurements, of layers and of the whole model against onnxruntime; made when a session first meets
        a model on this machine, and kept on disk. ``"cached"``: by measurements that were kept; nothing is measured.
        ``"off"``: by an estimate from the layer's sizes. ``"sparse"``: every such layer runs on a sparse kernel,
        whatever it takes. ``"hosted"``: likewise, as an operator inside one session of onnxruntime, where that can run
        it. Where no measurement was kept, ``"cached"`` estimates, too. None takes what the environment
        variable ``SPARSE_RT_TUNING`` says, else ``"on"``.
    tuning_seconds
        About how long the measurements for one session may take, compilation and loading not counted.
    enable_profiling
        Whether runs are noted, step by step, until :meth:`InferenceSession.end_profiling` writes them to a file whose
        name begins with the option `profile_file_prefix`, by default ``sparse_rt_profile``. Nothing is tuned meanwhile.

    Raises
    ------
    ConfigError
        An option is unknown, or its value is out of range.
    """

    __slots__ = (
        "_config_entries",
        "_passed_on",
        "_usable",
        "enable_profiling",
        "graph_optimization_level",
        "intra_op_num_threads",
        "kernel_tier",
        "log_severity_level",
        "tuning",
        "tuning_seconds",
    )

    enable_profiling: bool
    intra_op_num_threads: int
    graph_optimization_level: Any
    log_severity_level: int
    kernel_tier: str | None
    tuning: str | None
    tuning_seconds: float
    _passed_on: dict[str, Any]
    _config_entries: dict[str, str]
    _usable: int | None

    @public
    def __init__(
        self,
        intra_op_num_threads: int = 0,
        *,
        graph_optimization_level: Any = ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
        log_severity_level: int = 3,
        kernel_tier: str | None = None,
        tuning: str | None = None,
        tuning_seconds: float = _DEFAULT_TUNING_SECONDS,
        enable_profiling: bool = False,
        **passed_on: Any,
    ) -> None:
        object.__setattr__(self, "_passed_on", {})
        object.__setattr__(self, "_config_entries", {})
        object.__setattr__(self, "_usable", None)
        self.intra_op_num_threads = intra_op_num_threads
        self.graph_optimization_level = graph_optimization_level
        self.log_severity_level = log_severity_level
        self.kernel_tier = kernel_tier
        self.tuning = tuning
        self.tuning_seconds = tuning_seconds
        self.enable_profiling = enable_profiling
        for name, value in passed_on.items():
            setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        # Called for names that are not set here.
        if name in PASSED_ON or name in REFUSED:
            return self._passed_on.get(name, getattr(ort.SessionOptions(), name))
        raise AttributeError(str(unknown_option(name)))

    def __setattr__(self, name: str, value: Any) -> None:
        if name in PASSED_ON or name in REFUSED:
            self._pass_on(name, value)
            return
        if name not in OWN:
            raise unknown_option(name)
        where = f"session option '{name}'"
        if name == "intra_op_num_threads" and not (is_integer(value) and 0 <= value <= MOST_THREADS):
            raise ConfigError(message(where, f"a whole number from 0 to {MOST_THREADS}", repr(value)))
        if name == "log_severity_level" and not (is_integer(value) and 0 <= value <= 4):
            raise ConfigError(message(where, "a whole number from 0 to 4", repr(value)))
        if name == "graph_optimization_level" and not isinstance(value, ort.GraphOptimizationLevel):
            raise ConfigError(message(where, "an onnxruntime.GraphOptimizationLevel", repr(value)))
        if name == "kernel_tier":
            check_tier(where, value)
        if name == "tuning" and value is not None:
            check_tuning(where, value)
        if name == "tuning_seconds" and not (isinstance(value, int | float) and 0 <= value < math.inf):
            raise ConfigError(message(where, "seconds, at least 0", repr(value)))
        if name == "enable_profiling" and not isinstance(value, bool):
            raise ConfigError(message(where, "True or False", repr(value)))
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        values = {name: getattr(self, name) for name in OWN} | self._passed_on
        return f"SessionOptions({', '.join(f'{name}={value!r}' for name, value in values.items())})"

    def _pass_on(self, name: str, value: Any) -> None:
        native = ort.SessionOptions()
        default = getattr(native, name)
        if isinstance(default, str) and not isinstance(value, str):  # onnxruntime may end the process for None
            raise ConfigError(message(f"session option '{name}'", "a value of type str", repr(value)))
        if name in REFUSED and (type(value) is not type(default) or value != default):
            where = f"session option '{name}'"
            remedy = "onnxruntime runs parts of a model here, not all of it."
            raise ConfigError(message(where, repr(default), repr(value), remedy))
        try:
            setattr(native, name, value)
        except Exception as error:  # onnxruntime raises several types for wrong values
            kind = type(default).__name__
            raise ConfigError(message(f"session option '{name}'", f"a value of type {kind}", repr(value))) from error
        self._passed_on[name] = value

    @public
    def add_session_config_entry(self, key: str, value: str) -> None:
        """Set one of onnxruntime's config entries, for the parts that it runs.

        Raises
        ------
        ConfigError
            Key or value is no string, or too long for onnxruntime.
        """
        got = f"{key!r} = {value!r}"
        if not isinstance(key, str) or not isinstance(value, str):  # onnxruntime ends the process for None
            raise ConfigError(message("session config entry", "a key and a value that are strings", got))
        try:
            ort.SessionOptions().add_session_config_entry(key, value)
        except Exception as error:  # onnxruntime raises several types for wrong values
            raise ConfigError(message("session config entry", "a key and a value that are strings", got)) from error
        self._config_entries[key] = value

    @public
    def get_session_config_entry(self, key: str) -> str:
        """Return the config entry of that name.

        Raises
        ------
        ConfigError
            There is none.
        """
        if not isinstance(key, str) or key not in self._config_entries:
            raise ConfigError(message("session config entry", f"keys among {list(self._config_entries)}", repr(key)))
        return self._config_entries[key]

    def copy(self) -> "SessionOptions":
        """Return options of the same values."""
        options = SessionOptions(**{name: getattr(self, name) for name in OWN}, **self._passed_on)
        for key, value in self._config_entries.items():
            options.add_session_config_entry(key, value)
        object.__setattr__(options, "_usable", self._usable)
        return options

    def of_now(self) -> "SessionOptions":
        """Return a copy for which 0 threads stand for what the process may use now, whatever it may use later."""
        options = self.copy()
        object.__setattr__(options, "_usable", usable_threads())
        return options

    @property
    def threads(self) -> int:
        """The number of threads that 0 stands for, or else the one that was given."""
        return self.intra_op_num_threads or self._usable or usable_threads()

    @property
    def profile_prefix(self) -> str:
        """What the names of profiles begin with."""
        return str(self._passed_on.get("profile_file_prefix", "sparse_rt_profile"))

    @property
    def tuning_mode(self) -> str:
        """What `tuning` stands for.

        Raises
        ------
        ConfigError
            The environment variable names none.
        """
        if settings().is_disabled:
            # For looking at kernels, one by one; they take forever.
            return "sparse"
        if self.tuning is not None:
            return self.tuning
        chosen = os.environ.get(TUNING_VARIABLE) or _DEFAULT_TUNING
        check_tuning(f"environment variable {TUNING_VARIABLE}", chosen)
        return chosen

    def for_onnxruntime(self) -> dict[str, str]:
        """Return what onnxruntime is told beside the number of threads, in words."""
        words = {name: str(value) for name, value in self._passed_on.items() if name != "profile_file_prefix"}
        words |= self._config_entries
        return {"graph_optimization_level": self.graph_optimization_level.name, **words}

    @property
    def config_entries(self) -> Mapping[str, str]:
        """What :meth:`add_session_config_entry` set."""
        return dict(self._config_entries)

    def onnxruntime_options(self, threads: int | None = None) -> ort.SessionOptions:
        """Return the same options for an onnxruntime session; `threads` overrides their number of threads."""
        native = ort.SessionOptions()
        # By default onnxruntime takes all cores of the machine and binds its threads to them, whatever the process may
        # use; of a given number of threads each may run where the one may that opens the session.
        is_default = self.intra_op_num_threads == 0 and not is_limited()
        native.intra_op_num_threads = (0 if is_default else self.threads) if threads is None else threads
        native.graph_optimization_level = self.graph_optimization_level
        native.log_severity_level = self.log_severity_level
        native.enable_profiling = self.enable_profiling
        for name, value in self._passed_on.items():
            setattr(native, name, value)
        if self.enable_profiling:
            native.profile_file_prefix = f"{self.profile_prefix}_{os.getpid()}_{next(_profiles)}"
        for key, entry in self._config_entries.items():
            native.add_session_config_entry(key, entry)
        return native
