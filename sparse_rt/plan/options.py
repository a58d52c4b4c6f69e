"""Options of a session."""

import os
from typing import Any

import onnxruntime as ort
from sparse_rt_kernels import isa

from sparse_rt.errors import ConfigError, message

__all__ = ["SessionOptions", "usable_threads"]


def usable_threads() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class SessionOptions:
    """How a session runs; a subset of onnxruntime's own options, given by keyword or set as attributes.

    Parameters
    ----------
    intra_op_num_threads
        Threads of one operator; 0 takes every CPU that the process may use.
    graph_optimization_level
        onnxruntime's, for the parts that it runs.
    log_severity_level
        onnxruntime's: 0 verbose, 1 info, 2 warning, 3 error, 4 fatal.
    kernel_tier
        The most specific tier of sparse kernels to use: "avx512vnni", "avx512", "avx2vnni", "avx2" or "generic". None
        takes that of the environment variable ``SPARSE_RT_TIER``, else the best that the CPU can run.

    Raises
    ------
    ConfigError
        An option is unknown, or its value is out of range.
    """

    __slots__ = ("graph_optimization_level", "intra_op_num_threads", "kernel_tier", "log_severity_level")

    intra_op_num_threads: int
    graph_optimization_level: Any
    log_severity_level: int
    kernel_tier: str | None

    def __init__(
        self,
        intra_op_num_threads: int = 0,
        *,
        graph_optimization_level: Any = ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
        log_severity_level: int = 3,
        kernel_tier: str | None = None,
        **unknown: Any,
    ) -> None:
        for name in unknown:
            raise _unknown(name)
        self.intra_op_num_threads = intra_op_num_threads
        self.graph_optimization_level = graph_optimization_level
        self.log_severity_level = log_severity_level
        self.kernel_tier = kernel_tier

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__slots__:
            raise _unknown(name)
        where = f"session option '{name}'"
        if name == "intra_op_num_threads" and not (_is_integer(value) and value >= 0):
            raise ConfigError(message(where, "a whole number, at least 0", repr(value)))
        if name == "log_severity_level" and not (_is_integer(value) and 0 <= value <= 4):
            raise ConfigError(message(where, "a whole number from 0 to 4", repr(value)))
        if name == "graph_optimization_level" and not isinstance(value, ort.GraphOptimizationLevel):
            raise ConfigError(message(where, "an onnxruntime.GraphOptimizationLevel", repr(value)))
        if name == "kernel_tier":
            _check_tier(where, value)
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"SessionOptions({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"

    def copy(self) -> "SessionOptions":
        """Return options of the same values."""
        return SessionOptions(**{name: getattr(self, name) for name in self.__slots__})

    @property
    def threads(self) -> int:
        """The number of threads that 0 stands for, or else the one that was given."""
        return self.intra_op_num_threads or usable_threads()

    def onnxruntime_options(self) -> ort.SessionOptions:
        """Return the same options for an onnxruntime session."""
        native = ort.SessionOptions()
        native.intra_op_num_threads = self.intra_op_num_threads and self.threads
        native.graph_optimization_level = self.graph_optimization_level
        native.log_severity_level = self.log_severity_level
        return native


def _check_tier(where: str, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise ConfigError(message(where, f"None or one of {', '.join(isa.TIERS)}", repr(value)))
    try:
        isa.supported_tiers(value)
    except ValueError as error:
        # Kernels word their errors in the same form, and name the variable or the option.
        raise ConfigError(str(error)) from error


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _unknown(name: str) -> ConfigError:
    known = ", ".join(SessionOptions.__slots__)
    return ConfigError(message("session options", f"options among {known}", repr(name)))
