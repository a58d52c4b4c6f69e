"""Keep measurements on disk, as JSON that a person can read, one small file for each key."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparse_rt_kernels.disk import cache_folder
from sparse_rt_kernels.jit import compilation

__all__ = ["Store"]


class Store:
    """Documents by key, in a folder beside the compiled kernels.

    Several processes may read and write at once: a file is written beside its place and moved there, so that a reader
    finds a whole one, and each key has a file of its own, so that no writer undoes another's work. What cannot be read
    (missing, damaged, of another key, perhaps written by somebody else) was never measured.

    Parameters
    ----------
    folder
        Created when something is written; by default ``tuning`` in the cache folder of the compiled kernels.
    """

    def __init__(self, folder: Path | None = None) -> None:
        if folder is not None:
            self._folders: list[cache_folder.Place] = [(folder.absolute(), ())]
        else:
            self._folders = [(base, (compilation.cache_key(), "tuning")) for base in cache_folder.bases()]

    def read(self, kind: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the document that was written under that key; None if there is none."""
        for content in cache_folder.read(self._places(kind, key)):
            try:
                found = json.loads(content)
                # Names are hashes: what the file says of itself decides.
                if isinstance(found, dict) and _text(found.get("key")) == _text(key):
                    return found
            except (ValueError, RecursionError):  # ValueError: neither JSON nor UTF-8
                pass
        return None

    def write(self, kind: str, key: Mapping[str, Any], document: Mapping[str, Any]) -> None:
        """Keep a document; an error of the file system is none of the caller's."""
        cache_folder.write(self._places(kind, key), json.dumps({"key": key, **document}, indent=1).encode())

    def _places(self, kind: str, key: Mapping[str, Any]) -> list[cache_folder.Place]:
        name = f"{kind}-{hashlib.sha256(_text(key).encode()).hexdigest()[:24]}.json"
        return [(base, (*inside, name)) for base, inside in self._folders]


def _text(key: Any) -> str:
    return json.dumps(key, sort_keys=True)
