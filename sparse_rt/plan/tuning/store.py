"""Keep measurements on disk, as JSON that a person can read, one small file for each key."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparse_rt_kernels import cache_folder, jit

__all__ = ["Store"]


class Store:
    """Documents by key, in a folder beside the compiled kernels.

    Several processes may read and write at once: a file is written beside its place and moved there, so that a reader
    finds a whole one, and each key has a file of its own, so that no writer undoes another's work. What cannot be read
    (missing, cut off, damaged, of another key) was never measured; what cannot be written is forgotten.

    Parameters
    ----------
    folder
        Created when something is written; by default ``tuning`` in the cache folder of the compiled kernels.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = cache_folder.writable(jit.cache_key()) / "tuning" if folder is None else folder

    def read(self, kind: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the document that was written under that key; None if there is none."""
        try:
            found = json.loads(self._path(kind, key).read_bytes())
        except (
            OSError,
            ValueError,
            RecursionError,
        ):  # ValueError: neither JSON nor UTF-8; the last: nested
            return None
        # Names are hashes: what the file says of itself decides.
        if not isinstance(found, dict) or _text(found.get("key")) != _text(key):
            return None
        return found

    def write(self, kind: str, key: Mapping[str, Any], document: Mapping[str, Any]) -> None:
        """Keep a document; an error of the file system is none of the caller's."""
        path = self._path(kind, key)
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, beside = tempfile.mkstemp(dir=self.folder, prefix=path.stem, suffix=".part")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    json.dump({"key": key, **document}, file, indent=1)
                os.replace(beside, path)
            except OSError:
                os.unlink(beside)
                raise

    def _path(self, kind: str, key: Mapping[str, Any]) -> Path:
        digest = hashlib.sha256(_text(key).encode()).hexdigest()[:24]
        return self.folder / f"{kind}-{digest}.json"


def _text(key: Any) -> str:
    return json.dumps(key, sort_keys=True)
