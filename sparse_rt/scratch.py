"""Folders for files that are needed for a while; those that killed processes left are removed."""

import os
import shutil
import stat
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from sparse_rt.liveness import abandoned, hold

__all__ = ["ScratchFolder"]

_PREFIX: Final = "sparse_rt-"
_LOCK: Final = "in-use"


class ScratchFolder:
    """A private folder among the system's temporary ones, which lasts as long as this object, or a ``with`` block.

    Making one removes those of this user whose processes are gone without having removed them.

    Parameters
    ----------
    purpose
        Part of the folder's name.

    Raises
    ------
    OSError
        There is no place for temporary files.
    """

    def __init__(self, purpose: str) -> None:
        _remove_abandoned(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{purpose}-"))
        """The folder."""
        draft = self.path / f"{_LOCK}.draft"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        hold(descriptor)
        draft.rename(self.path / _LOCK)  # under this name it is held, or abandoned
        self._remove = weakref.finalize(self, _remove, self.path, descriptor, os.getpid())

    def remove(self) -> None:
        """Remove the folder and all that is in it."""
        self._remove()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()


def _remove(path: Path, descriptor: int, owner: int) -> None:
    os.close(descriptor)
    if os.getpid() == owner:  # a forked child has the object, but the folder is its parent's
        shutil.rmtree(path, ignore_errors=True)


def _remove_abandoned(among: Path) -> None:
    with suppress(OSError), os.scandir(among) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and _is_own_folder(entry):
                with abandoned(Path(entry.path, _LOCK)) as nobodys:
                    if nobodys:
                        shutil.rmtree(entry.path, ignore_errors=True)


def _is_own_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and hasattr(os, "geteuid") and found.st_uid == os.geteuid()
