"""Files that others open by their path: shared objects, which the loader of the system maps into memory.

They lie in the cache folder and are believed by its rules. The seal stands behind the content, where no loader looks.
The way to a trusted file is trusted as well, so what was checked cannot be exchanged before it is opened. A file is
never written to: a new one takes its name, and who has the old one mapped keeps it, as after its removal.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sparse_rt_kernels.disk import cache_folder

__all__ = ["path_of"]

_SEAL: Final = len(cache_folder.seal("", "", b""))
#: Libraries without a folder, which live as long as the process.
_in_memory: dict[tuple[str, str], Path] = {}


def path_of(key: str, name: str, make: Callable[[], bytes]) -> Path:
    """Return the path of a whole file that nobody but this user and root can have written.

    Where no folder takes it, or none from which code may be run, it is a file in memory, of this process alone.

    Parameters
    ----------
    key, name
        Of the folder in the cache folder, and of the file in it.
    make
        Makes the content; called if the file is absent, damaged or not to be trusted. `key` and `name` must tell it
        from any other.

    Raises
    ------
    OSError
        There is no folder, and no memory either.
    """
    bases = [base for base in cache_folder.bases() if _may_run(base)]
    for base in bases:
        if any(_is_whole(key, name, content) for content in cache_folder.read([(base, (key, name))])):
            return base / key / name
    if (kept := _in_memory.get((key, name))) is not None:
        return kept
    content = make()
    sealed = content + cache_folder.seal(key, name, content)
    for base in bases:
        if cache_folder.write([(base, (key, name))], sealed):
            return base / key / name
    return _in_memory.setdefault((key, name), _written_to_memory(name, content))


def _is_whole(key: str, name: str, sealed: bytes) -> bool:
    return sealed[-_SEAL:] == cache_folder.seal(key, name, memoryview(sealed)[:-_SEAL])


def _may_run(base: Path) -> bool:
    """Return whether files in a folder, which need not exist yet, may be mapped as code."""
    for folder in (base, *base.parents):
        try:
            return not os.statvfs(folder).f_flag & os.ST_NOEXEC
        except (OSError, ValueError):  # not there yet; or no path of any system
            continue
    return False


def _written_to_memory(name: str, content: bytes) -> Path:
    descriptor = os.memfd_create(name)
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(content)
    return Path(f"/proc/self/fd/{descriptor}")
