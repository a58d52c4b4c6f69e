"""Where compiled kernels are kept, and files that are whole or absent, whoever else writes them."""

import functools
import os
import tempfile
from pathlib import Path

__all__ = ["bases", "find", "store", "writable"]


def bases() -> list[Path]:
    """Return the folders that may hold compiled kernels, the preferred one first.

    ``$SPARSE_RT_CACHE_DIR``, else ``$XDG_CACHE_HOME/sparse_rt``, else ``~/.cache/sparse_rt``.
    """
    found = []
    if chosen := os.environ.get("SPARSE_RT_CACHE_DIR"):
        found.append(Path(chosen))
    found.append(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sparse_rt")
    return found


def _is_writable(directory: Path) -> bool:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return True
    except OSError:
        return False


@functools.cache
def writable(key: str) -> Path:
    """Return the folder `key` of the first base that can be written, created if needed.

    Where none can, a private temporary folder, so that a read-only install on a read-only home still runs.
    """
    for base in bases():
        if _is_writable(base / key):
            return base / key
    return Path(tempfile.mkdtemp(prefix="sparse_rt-"))


def find(key: str, name: str) -> bytes | None:
    """Return the file `name` of the folder `key` in any base, those that cannot be written included."""
    for base in bases():
        try:
            return (base / key / name).read_bytes()
        except OSError:
            continue
    return None


def store(key: str, name: str, content: bytes) -> None:
    """Write a file into the folder `key`, in one go; a file system that refuses costs the next process its time."""
    folder = writable(key)
    try:
        handle, draft = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(draft, folder / name)
    except OSError:
        Path(draft).unlink(missing_ok=True)
