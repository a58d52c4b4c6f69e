"""What is kept on disk: files that are whole, ours and where they belong, or else absent.

Nothing here raises on account of the file system: where it refuses, is full, or holds what it should not, the next
process takes its time again. See :mod:`sparse_rt_kernels.disk.trusted_files` for whom it believes.
"""

import contextlib
import hashlib
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from sparse_rt_kernels.disk import trusted_files
from sparse_rt_kernels.disk.trusted_files import UntrustedError

__all__ = ["FOLDER_VARIABLE", "SHARED_VARIABLE", "Place", "bases", "find", "read", "seal", "store", "write"]

#: A folder by its absolute path, and the names that lead to a file in it.
Place = tuple[Path, tuple[str, ...]]

#: Environment variable: the one folder that is used.
FOLDER_VARIABLE: Final = "SPARSE_RT_CACHE_DIR"
#: Environment variable: whether other users may read what this process keeps.
SHARED_VARIABLE: Final = "SPARSE_RT_CACHE_SHARED"
_MAGIC: Final = b"sparse_rt 1 "
_log = logging.getLogger("sparse_rt")
#: What the user was told already.
_told: set[str] = set()


def bases() -> list[Path]:
    """Return the folders that may hold what is kept, the preferred one first.

    ``$SPARSE_RT_CACHE_DIR`` alone where it is set; a relative path counts from the working directory. Else
    ``$XDG_CACHE_HOME/sparse_rt`` or ``~/.cache/sparse_rt``, then a folder of this user's in the system's temporary one,
    for those without a home.
    """
    if chosen := os.environ.get(FOLDER_VARIABLE):
        return [base] if (base := _absolute(Path(chosen))) else []
    home = Path(os.environ.get("XDG_CACHE_HOME") or "")
    found = [home / "sparse_rt"] if home.is_absolute() else []
    if not found:
        with contextlib.suppress(RuntimeError):  # this user has no home
            found.append(Path.home() / ".cache" / "sparse_rt")
    user = os.geteuid() if hasattr(os, "geteuid") else "user"
    with contextlib.suppress(OSError):  # nothing can be written anywhere
        found.append(Path(tempfile.gettempdir()) / f"sparse_rt-{user}")
    return [base for each in found if (base := _absolute(each))]


def _absolute(path: Path) -> Path | None:
    try:
        return path.absolute()
    except OSError:  # the working directory is gone
        return None


def find(key: str, name: str) -> bytes | None:
    """Return what :func:`store` was given; None where it is absent, damaged, or may be somebody else's."""
    opened = (_opened(key, name, content) for content in read((base, (key, name)) for base in bases()))
    return next((content for content in opened if content is not None), None)


def store(key: str, name: str, content: bytes) -> bool:
    """Keep a file under `name` in the folder `key`; return whether a folder takes it."""
    return write([(base, (key, name)) for base in bases()], _sealed(key, name, content))


def read(places: Iterable[Place]) -> Iterator[bytes]:
    """Yield the contents of those files that can be read, and that only this user or root can have written."""
    for base, inside in places:
        try:
            content = trusted_files.read(base, inside)
        except UntrustedError as error:
            _tell(base, error)
        except (OSError, ValueError, MemoryError):  # ValueError: a path that no system takes
            pass
        else:
            yield content


def write(places: Iterable[Place], content: bytes) -> bool:
    """Write a file to the first place that takes it, in one go; return whether one does."""
    is_shared = os.environ.get(SHARED_VARIABLE, "") not in ("", "0")
    for base, inside in places:
        try:
            trusted_files.write(base, inside, content, is_shared=is_shared)
        except UntrustedError as error:
            _tell(base, error)
        except (OSError, ValueError, MemoryError):
            pass
        else:
            return True
    return False


def _sealed(key: str, name: str, content: bytes) -> bytes:
    return seal(key, name, content) + b"\n" + content


def _opened(key: str, name: str, sealed: bytes) -> bytes | None:
    line, _, content = sealed.partition(b"\n")
    return content if line == seal(key, name, content) else None


def seal(key: str, name: str, content: bytes | memoryview) -> bytes:
    """Return a line that tells damage of a file's content, and a file in another one's place."""
    digest = hashlib.sha256(f"{key}\0{name}\0".encode())
    digest.update(content)
    return _MAGIC + digest.hexdigest().encode()


def _tell(base: Path, error: UntrustedError) -> None:
    """Tell why every process takes its time; once, and never as an exception."""
    text = f"cache folder '{base}': not used, since {error}."
    if text not in _told:
        _told.add(text)
        _log.warning(text)
