"""What this CPU can do, as Numba will compile for it, and which tier of kernels fits it."""

import functools

import llvmlite.binding as llvm
from numba.core import config

__all__ = ["TIERS", "cpu_features", "cpu_name", "supported_tiers", "tier"]

#: Tiers from the most to the least specific, each with the LLVM feature names that it needs.
TIERS: dict[str, frozenset[str]] = {
    "avx512vnni": frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vbmi", "avx512vnni"}),
    "avx512": frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq"}),
    "avx2": frozenset({"avx2", "fma"}),
    "generic": frozenset(),
}


@functools.cache
def cpu_name() -> str:
    """Return LLVM's name of the CPU that kernels are compiled for; ``NUMBA_CPU_NAME`` overrides the host's."""
    return str(config.CPU_NAME or llvm.get_host_cpu_name())


@functools.cache
def cpu_features() -> frozenset[str]:
    """Return the LLVM features that kernels may use; ``NUMBA_CPU_FEATURES`` replaces the host's list.

    Numba sets the list to empty for ``NUMBA_CPU_NAME=generic``.
    """
    if config.CPU_FEATURES is not None:
        listed = str(config.CPU_FEATURES).split(",")
        return frozenset(item[1:] for item in listed if item.startswith("+"))
    return frozenset(name for name, present in llvm.get_host_cpu_features().items() if present)


@functools.cache
def supported_tiers() -> tuple[str, ...]:
    """Return the tiers that this CPU can run, the most specific first; ``"generic"`` is always the last.

    Under ``NUMBA_DISABLE_JIT`` it is the only one: explicit SIMD exists as machine code alone.
    """
    if config.DISABLE_JIT:
        return ("generic",)
    features = cpu_features()
    return tuple(name for name, needed in TIERS.items() if needed <= features)


def tier() -> str:
    """Return the most specific tier that this CPU can run."""
    return supported_tiers()[0]
