"""Files that nobody but this user and root can have written, in folders of which the same holds.

What is kept on disk is run: machine code, and what Numba unpickles. So a path is walked folder by folder, each opened
relative to the one before and looked at through its descriptor; nothing can be exchanged between the look and the use.
A folder is trusted if it belongs to this user or root, and others cannot write to it; on the way to the cache also one
where they cannot replace what they do not own (``/tmp``, by its sticky bit). Windows has other rules than owners and
modes: there paths are opened as they are.
"""

import contextlib
import functools
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["LARGEST", "UntrustedError", "read", "write"]

#: Bytes of the largest file that is read.
LARGEST: Final = 1 << 26
#: Symbolic links that are followed on the way to a folder, as many as Linux follows.
_MOST_LINKS: Final = 40
#: What may write to a file beside its owner.
_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_DRAFT: Final = ".part"
#: Seconds after which a draft is one that a killed process has left.
_STALE: Final = 3600.0
_HAS_OWNERS: Final = hasattr(os, "geteuid") and os.open in os.supports_dir_fd
# A folder that may be passed through, but not listed, opens with O_PATH only.
_FOLDER: Final = (
    getattr(os, "O_PATH", os.O_RDONLY)
    | getattr(os, "O_DIRECTORY", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
)
# Opening a FIFO must not wait for its writer.
_FILE: Final = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


class UntrustedError(OSError):
    """Somebody else owns a file or folder, or may write to it."""


def read(base: Path, inside: tuple[str, ...]) -> bytes:
    """Return the content of a file.

    Parameters
    ----------
    base
        An absolute path.
    inside
        Names of the folders in it that lead to the file, and the file's. No links are followed there.

    Raises
    ------
    OSError
        There is no such file, or none of at most :data:`LARGEST` bytes.
    UntrustedError
        Others may have written it.
    """
    if not _HAS_OWNERS:
        return base.joinpath(*inside).read_bytes()
    with _folder(base, inside[:-1], None) as folder:
        descriptor = os.open(inside[-1], _FILE, dir_fd=folder)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST:
                raise OSError(f"'{inside[-1]}' is no regular file, or too large")
            _check(found, inside[-1])
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(found.st_size)
        finally:
            os.close(descriptor)


def write(base: Path, inside: tuple[str, ...], content: bytes, *, is_shared: bool = False) -> None:
    """Write a file in one go; whoever reads it meanwhile finds the old one, or none.

    Parameters
    ----------
    base, inside
        As of :func:`read`; folders that do not exist are made.
    content
        Of the file.
    is_shared
        Whether other users may read what is made. Nobody else may write to it, whatever the umask.

    Raises
    ------
    OSError
        The file system refuses.
    UntrustedError
        Others may write there.
    """
    if not _HAS_OWNERS:
        _write_plainly(base.joinpath(*inside), content)
        return
    with _folder(base, inside[:-1], 0o755 if is_shared else 0o700) as folder:
        _drop_stale(base.joinpath(*inside[:-1]))
        draft = f".{inside[-1]}.{secrets.token_hex(8)}{_DRAFT}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(draft, flags, 0o600, dir_fd=folder)
        try:
            try:
                # Whatever the umask has taken.
                os.fchmod(descriptor, 0o644 if is_shared else 0o600)
                with os.fdopen(descriptor, "wb", closefd=False) as file:
                    file.write(content)
            finally:
                os.close(descriptor)
            os.replace(draft, inside[-1], src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(draft, dir_fd=folder)
            raise


def _write_plainly(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}{_DRAFT}")
    try:
        draft.write_bytes(content)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


@functools.cache
def _drop_stale(folder: Path) -> None:
    """Remove, once in a process, what processes that were killed have left in a folder that is trusted."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            is_draft = entry.name.startswith(".") and entry.name.endswith(_DRAFT)
            with contextlib.suppress(OSError):  # another process was faster
                if is_draft and time.time() - entry.stat(follow_symlinks=False).st_mtime > _STALE:
                    os.unlink(entry.path)


@contextlib.contextmanager
def _folder(base: Path, inside: tuple[str, ...], mode: int | None) -> Iterator[int]:
    """Open a folder in `base`; one that does not exist is made with `mode`, unless that is None."""
    descriptor = _walk(base, mode)
    try:
        for name in inside:
            descriptor = _step(descriptor, name, mode)
            _check(os.fstat(descriptor), name)
        yield descriptor
    finally:
        os.close(descriptor)


def _walk(base: Path, mode: int | None) -> int:
    """Return a descriptor of `base`, to which a trusted way leads."""
    descriptor = os.open(base.anchor, _FOLDER)
    todo = list(reversed(base.parts[1:]))
    links = 0
    try:
        _check_way(os.fstat(descriptor), base.anchor)
        while todo:
            name = todo.pop()
            try:
                descriptor = _step(descriptor, name, mode)
            except OSError:
                target = _link(descriptor, name)
                if target is None:
                    raise
            else:
                _check_way(os.fstat(descriptor), name)
                continue
            links += 1
            if links > _MOST_LINKS:
                raise OSError(f"too many links on the way to '{base}'")
            todo.extend(reversed([part for part in target.parts if part != target.anchor]))
            if target.anchor:
                descriptor = _replaced(descriptor, os.open(target.anchor, _FOLDER))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _link(folder: int, name: str) -> Path | None:
    """Return where a symbolic link points to; None for what is none."""
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISLNK(found.st_mode):
        return None
    _check_owner(found, name)
    return Path(os.readlink(name, dir_fd=folder))


def _step(folder: int, name: str, mode: int | None) -> int:
    """Return a descriptor of the folder `name` in a folder, whose own is closed; make it with `mode` if absent."""
    if mode is not None:
        try:
            return _replaced(folder, os.open(name, _FOLDER, dir_fd=folder))
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):  # another process was faster
                os.mkdir(name, 0o700, dir_fd=folder)
                # The umask may have taken more, and what is shared wants more.
                os.chmod(name, mode, dir_fd=folder)
    return _replaced(folder, os.open(name, _FOLDER, dir_fd=folder))


def _replaced(old: int, new: int) -> int:
    os.close(old)
    return new


def _check(found: os.stat_result, name: str) -> None:
    """Raise unless only this user and root can have written what lies there."""
    _check_owner(found, name)
    if found.st_mode & _OTHERS:
        raise UntrustedError(f"'{name}' can be written by others; remedy: chmod go-w")


def _check_way(found: os.stat_result, name: str) -> None:
    """Raise unless only this user and root can replace what they own in a folder."""
    _check_owner(found, name)
    others = found.st_mode & _OTHERS
    if others and not found.st_mode & stat.S_ISVTX and not (others == stat.S_IWGRP and _is_private(found.st_gid)):
        raise UntrustedError(f"'{name}' can be written by others; remedy: chmod go-w")


def _check_owner(found: os.stat_result, name: str) -> None:
    if found.st_uid not in (0, os.geteuid()):
        raise UntrustedError(f"'{name}' belongs to another user, {found.st_uid}")


@functools.cache
def _is_private(group: int) -> bool:
    """Return whether this user, not root, is all of a group: where each user has one, the umask lets it write."""
    import grp
    import pwd

    if not os.geteuid():
        return False
    try:
        user, members = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return user.pw_gid == group and members.gr_name == user.pw_name and set(members.gr_mem) <= {user.pw_name}
