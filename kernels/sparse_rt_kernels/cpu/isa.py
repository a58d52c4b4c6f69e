"""What this CPU can do, as Numba will compile for it, and which tiers of kernels fit it."""

import functools
import os

from sparse_rt_kernels.cpu.settings import settings

__all__ = ["TIERS", "TIER_VARIABLE", "allows", "cpu_features", "fits", "level", "number_of", "supported_tiers", "tier"]

_AVX2 = frozenset({"avx2", "fma"})
_AVX512 = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq"})

#: Tiers from the most to the least specific, each with the sets of LLVM feature names of which one is enough.
#: vpdpbusd on 32-byte registers has two encodings, one of AVX-VNNI and one of AVX-512.
TIERS: dict[str, tuple[frozenset[str], ...]] = {
    "avx512vnni": (_AVX512 | {"avx512vbmi", "avx512vnni"},),
    "avx512": (_AVX512,),
    "avx2vnni": (_AVX2 | {"avxvnni"}, _AVX2 | {"avx512vl", "avx512vnni"}),
    "avx2": (_AVX2,),
    "generic": (frozenset(),),
}

#: Environment variable that names the most specific tier to use.
TIER_VARIABLE = "SPARSE_RT_TIER"


@functools.cache
def cpu_features() -> frozenset[str]:
    """Return the LLVM features that kernels may use."""
    return frozenset(settings().cpu_features)


def fits(name: str, features: frozenset[str]) -> bool:
    """Return whether a CPU with the LLVM features `features` can run the kernels of tier `name`."""
    return any(needed <= features for needed in TIERS[name])


@functools.cache
def _runnable_tiers() -> tuple[str, ...]:
    # Explicit SIMD exists as machine code alone.
    features = frozenset() if settings().is_disabled else cpu_features()
    return tuple(name for name in TIERS if fits(name, features))


def supported_tiers(most: str | None = None) -> tuple[str, ...]:
    """Return the tiers whose kernels may be chosen, the most specific first; ``"generic"`` is always the last.

    They are what the CPU can run; under ``NUMBA_DISABLE_JIT`` that is ``"generic"`` alone.

    Parameters
    ----------
    most
        The most specific tier to use. None takes that of the environment variable ``SPARSE_RT_TIER``; where that is
        unset or empty, every tier that the CPU can run.

    Raises
    ------
    ValueError
        There is no such tier, or this CPU cannot run it.
    """
    runnable = _runnable_tiers()
    where = "kernel tier" if most is not None else f"environment variable {TIER_VARIABLE}"
    chosen = most if most is not None else os.environ.get(TIER_VARIABLE) or None
    if chosen is None:
        return runnable
    if chosen not in runnable:
        why = "which this CPU cannot run" if chosen in TIERS else "which is none"
        raise ValueError(f"{where}: expected one of {', '.join(runnable)}, got {chosen!r}, {why}.")
    order = list(TIERS)
    return tuple(name for name in runnable if order.index(name) >= order.index(chosen))


def number_of(name: str) -> int:
    """Return the number of a tier: 0 for the most specific one."""
    return list(TIERS).index(name)


def level(most: str | None = None) -> int:
    """Return the number of the most specific tier that a kernel may use, which its machine code is made for.

    See :func:`supported_tiers` for the argument, and for what is raised.
    """
    return number_of(supported_tiers(most)[0])


def allows(number: int, name: str) -> bool:
    """Return whether kernels of :func:`level` `number` may name the instructions of tier `name`, which this CPU has."""
    return number_of(name) >= number and fits(name, cpu_features())


def tier() -> str:
    """Return the most specific tier that this CPU can run, or that the environment allows."""
    return supported_tiers()[0]
