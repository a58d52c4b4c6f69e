"""Which options a session has, and what they may be."""

from typing import Any

from sparse_rt_kernels.cpu import isa

from sparse_rt.errors import ConfigError, message

__all__ = [
    "MOST_THREADS",
    "OWN",
    "PASSED_ON",
    "REFUSED",
    "TUNING",
    "check_tier",
    "check_tuning",
    "is_integer",
    "unknown_option",
]

#: What ``SessionOptions.tuning`` may be.
TUNING = ("on", "cached", "off", "sparse", "hosted")
#: More than any machine has CPUs; tens of thousands take half a minute to start, or all that the system has.
MOST_THREADS = 4096

#: Options that sparse_rt reads itself.
OWN = (
    "enable_profiling",
    "graph_optimization_level",
    "intra_op_num_threads",
    "kernel_tier",
    "log_severity_level",
    "tuning",
    "tuning_seconds",
)
#: Whatever they say holds of each part of a model as it would of the whole.
PASSED_ON = (
    "enable_cpu_mem_arena",
    "enable_mem_pattern",
    "enable_mem_reuse",
    "execution_mode",
    "execution_order",
    "inter_op_num_threads",
    "log_verbosity_level",
    "logid",
    "profile_file_prefix",
    "use_deterministic_compute",
    "use_per_session_threads",
)
#: May be given only as they are by default.
REFUSED = ("optimized_model_filepath",)


def check_tier(where: str, value: Any) -> None:
    """Raise ConfigError unless `value` is a tier of kernels, or None; `where` is what to call the option."""
    if value is not None and not isinstance(value, str):
        raise ConfigError(message(where, f"None or one of {', '.join(isa.TIERS)}", repr(value)))
    try:
        isa.supported_tiers(value)
    except ValueError as error:
        # Kernels word their errors in the same form, and name the variable or the option.
        raise ConfigError(str(error)) from error


def check_tuning(where: str, value: Any) -> None:
    """Raise ConfigError unless `value` is one of :data:`TUNING`."""
    if not isinstance(value, str) or value not in TUNING:
        raise ConfigError(message(where, f"one of {', '.join(TUNING)}", repr(value)))


def is_integer(value: Any) -> bool:
    """Return whether a value is a whole number, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def unknown_option(name: str) -> ConfigError:
    """Return the error about an option that there is not."""
    known = ", ".join((*OWN, *PASSED_ON))
    return ConfigError(message("session options", f"options among {known}", repr(name)))
