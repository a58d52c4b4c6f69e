"""Sizes of this CPU's data caches, which decide how kernels block."""

import functools
from pathlib import Path
from typing import Final

__all__ = ["LINE", "level1_bytes", "level2_bytes"]

#: Bytes of a cache line, which are those of a register of AVX-512, too.
LINE: Final = 64

_SYSFS = Path("/sys/devices/system/cpu/cpu0/cache")


def _data_cache_bytes(level: int, default: int) -> int:
    """Return the size of the data cache of `level`, or `default` where the system does not tell (not Linux)."""
    for entry in _SYSFS.glob("index*"):
        try:
            kind = (entry / "type").read_text().strip()
            found = int((entry / "level").read_text())
            size = (entry / "size").read_text().strip()
        except (OSError, ValueError):
            continue
        if found == level and kind in {"Data", "Unified"} and size.endswith("K") and size[:-1].isdigit():
            return int(size[:-1]) * 1024
    return default


@functools.cache
def level1_bytes() -> int:
    """Return the bytes of a core's first-level data cache."""
    return _data_cache_bytes(1, 32 * 1024)


@functools.cache
def level2_bytes() -> int:
    """Return the bytes of a core's second-level cache."""
    return _data_cache_bytes(2, 512 * 1024)
