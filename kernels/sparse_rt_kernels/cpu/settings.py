"""What Numba compiles for: its settings, and the host as LLVM sees it; kept on disk, so that neither is loaded."""

import functools
import hashlib
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Final, NamedTuple

from sparse_rt_kernels.disk import cache_folder

__all__ = ["Settings", "compilers", "settings"]

#: Lines of /proc/cpuinfo that differ between the CPUs of one machine, or from one moment to the next.
_VOLATILE: Final = frozenset(
    {
        *("processor", "cpu MHz", "bogomips", "BogoMIPS", "apicid", "initial apicid", "core id", "physical id"),
        *("siblings", "cpu cores"),
    }
)
_FOLDER: Final = "hosts"


class Settings(NamedTuple):
    """What decides what is compiled.

    Attributes
    ----------
    cpu_name
        LLVM's name of the CPU; ``NUMBA_CPU_NAME`` overrides the host's.
    cpu_features
        LLVM's features that kernels may use; ``NUMBA_CPU_FEATURES`` replaces the host's. Numba sets them to none for
        ``NUMBA_CPU_NAME=generic``.
    is_disabled
        Whether ``NUMBA_DISABLE_JIT`` is set.
    has_bounds_checks
        Whether indexes of arrays are checked.
    optimisation
        LLVM's level.
    """

    cpu_name: str
    cpu_features: tuple[str, ...]
    is_disabled: bool
    has_bounds_checks: bool
    optimisation: str


@functools.cache
def compilers() -> bytes:
    """Return what tells the versions of Numba and llvmlite, without importing them."""
    found = b""
    for package in ("numba", "llvmlite"):
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"sparse_rt needs {package}.")
        found += Path(spec.origin).with_name("_version.py").read_bytes()
    return found


def _host() -> bytes | None:
    """Return what /proc/cpuinfo says of the first CPU; None where there is no such file."""
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0]
    except OSError:
        return None
    lines = (line for line in first.splitlines() if line.partition(":")[0].strip() not in _VOLATILE)
    return "\n".join(lines).encode()


def _chosen() -> bytes:
    """Return the settings that the user gave Numba."""
    own = sorted((name, value) for name, value in os.environ.items() if name.startswith("NUMBA_"))
    try:
        file = Path(".numba_config.yaml").read_bytes()
    except OSError:
        file = b""
    return repr(own).encode() + file


@functools.cache
def settings() -> Settings:
    """Return the settings of this process: from disk, where a process on a like machine has left them."""
    host = None if "numba" in sys.modules else _host()
    if host is None:
        return _asked()
    name = hashlib.sha256(b"\0".join((compilers(), host, _chosen()))).hexdigest()[:20] + ".json"
    content = cache_folder.find(_FOLDER, name)
    known = None if content is None else _parsed(content)
    if known is None:
        known = _asked()
        cache_folder.store(_FOLDER, name, json.dumps(known).encode())
    return known


def _parsed(content: bytes) -> Settings | None:
    """Return the settings that a file holds; None if it holds anything else, of another version, say."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    kinds = (str, list, bool, bool, str)
    if not isinstance(found, list) or [type(value) for value in found] != list(kinds):
        return None
    cpu_name, cpu_features, is_disabled, has_bounds_checks, optimisation = found
    if not all(isinstance(feature, str) for feature in cpu_features):
        return None
    return Settings(cpu_name, tuple(cpu_features), is_disabled, has_bounds_checks, optimisation)


def _asked() -> Settings:
    """Ask Numba and LLVM."""
    import llvmlite.binding as llvm
    from numba.core import config

    if config.CPU_FEATURES is not None:
        features = [item[1:] for item in str(config.CPU_FEATURES).split(",") if item.startswith("+")]
    else:
        features = [name for name, present in llvm.get_host_cpu_features().items() if present]
    name = str(config.CPU_NAME or llvm.get_host_cpu_name())
    return Settings(name, tuple(sorted(features)), bool(config.DISABLE_JIT), bool(config.BOUNDSCHECK), str(config.OPT))
