"""Write a file so that it holds either all of the new content or what it held before."""

import io
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from sparse_rt.errors import SparseRTError, message
from sparse_rt.liveness import abandoned, hold

__all__ = ["file_path", "open_output"]

_SUFFIX: Final = ".part"
#: More symbolic links than this in a row are a circle, as for the system.
_MOST_LINKS: Final = 40
_DESCRIPTORS: Final = re.compile(r"/proc/([^/]+)(/task/[^/]+)?/fd")
_SEPARATORS: Final = (os.sep,) if os.altsep is None else (os.sep, os.altsep)


@contextmanager
def open_output(
    path: str | os.PathLike[str], error: type[SparseRTError] = SparseRTError, where: str | None = None
) -> Iterator[BinaryIO]:
    """Open a file to be written, which takes the place of the old one when the block ends without an exception.

    A new file gets the mode that the process's umask says; one that is replaced keeps its mode, and its owner where
    the system lets it. Symbolic links stay, the file that they lead to is replaced. What is no regular file (a device,
    a pipe, a FIFO, an open descriptor such as ``/dev/stdout``) is written to directly, from where it stands, and in
    order: nothing there can be kept, and the file that is given cannot seek.

    The new content lies beside the target until it is whole, as ``.<name>.<random>.part``. What a killed process left
    there is removed by the next one that writes the same file.

    Parameters
    ----------
    path
        The file to write.
    error
        What is raised.
    where
        What to call the file in messages; by default ``file '<path>'``.

    Raises
    ------
    SparseRTError
        As `error`: the file cannot be written, or the path names no file but a folder.
    """
    said = f"file '{os.fspath(path)}'" if where is None else where
    given = file_path(path, error, said)
    try:
        target, is_special = _target(given)
        opened = _written_through(target) if is_special else _replaced(target)
        with opened as file:
            yield file
    except OSError as failure:
        raise error(message(said, "a file that can be written", failure.strerror or str(failure))) from failure


def file_path(path: str | os.PathLike[str], error: type[SparseRTError], where: str) -> Path:
    """Return the path of a file to be written; raise `error` if it is one of a folder, as `Path` would not tell."""
    text = os.fspath(path)
    if not text or text.endswith(_SEPARATORS):
        raise error(message(where, "the path of a file", repr(text)))
    return Path(text)


def _target(path: Path) -> tuple[Path, bool]:
    """Return the file that a path leads to, and whether it is to be written through."""
    at = path
    for _ in range(_MOST_LINKS):
        folder = os.path.realpath(at.parent)
        at = Path(folder, at.name)
        if _DESCRIPTORS.fullmatch(folder):
            return at, True
        if not at.is_symlink():
            break
        at = Path(folder, at.readlink())
    try:
        mode = at.stat().st_mode
    except FileNotFoundError:
        return at, False
    return at, not stat.S_ISREG(mode)


class _Stream(io.FileIO):
    """A file that is written in order. Devices and pipes tell positions that mean nothing, or none."""

    def seekable(self) -> bool:
        return False

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        raise io.UnsupportedOperation("seek")

    def tell(self) -> int:
        raise io.UnsupportedOperation("tell")


@contextmanager
def _written_through(target: Path) -> Iterator[BinaryIO]:
    descriptor = _own_descriptor(target)
    with io.BufferedWriter(_Stream(os.fspath(target) if descriptor is None else descriptor, "wb")) as file:
        yield file


def _own_descriptor(target: Path) -> int | None:
    """Return a copy of the open descriptor of this process that a path names; None where it names none.

    Opening the path would open the file behind it once more, empty it, and begin at its start: what others have
    written there, or write there later, would be lost.
    """
    folder = _DESCRIPTORS.fullmatch(os.path.realpath(target.parent))
    if folder is None or folder[1] != str(os.getpid()) or not target.name.isdecimal():
        return None
    return os.dup(int(target.name))


@contextmanager
def _replaced(target: Path) -> Iterator[BinaryIO]:
    _remove_abandoned(target)
    descriptor, draft = _open_draft(target)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            _copy_mode(target, file.fileno())
            # Within the block: whoever cleans up looks for drafts that nobody holds.
            os.replace(draft, target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _open_draft(target: Path) -> tuple[int, Path]:
    """Return an open and held file beside the target; not readable by more users than the target is."""
    mode = 0o600 if target.exists() else 0o666
    while True:
        draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}{_SUFFIX}")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), mode)
        except FileExistsError:
            continue
        hold(descriptor)
        # Another process may have taken it for abandoned before it was held.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(draft)):
                return descriptor, draft
        os.close(descriptor)


def _copy_mode(target: Path, descriptor: int) -> None:
    try:
        old = os.stat(target)
    except FileNotFoundError:
        return
    if hasattr(os, "fchmod"):
        with suppress(PermissionError):
            os.fchown(descriptor, old.st_uid, old.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


def _remove_abandoned(target: Path) -> None:
    pattern = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}{re.escape(_SUFFIX)}")
    with suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if pattern.fullmatch(entry.name):
                with abandoned(entry.path) as nobodys:
                    if nobodys:
                        os.unlink(entry.path)
