"""Reports for programs: one JSON document, to a file or to standard output."""

import json
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from sparse_rt.errors import SparseRTError, message

__all__ = ["STDOUT", "write_json"]

#: The file name that means standard output.
STDOUT = "-"


def write_json(path: str, document: dict[str, Any]) -> None:
    """Write `document` so that the file holds either all of it or what it held before; ``-`` is standard output.

    NaN and infinities, which JSON has no words for, become null.

    Raises
    ------
    SparseRTError
        The file cannot be written.
    """
    text = json.dumps(_strict(document), indent=2, allow_nan=False) + "\n"
    if path == STDOUT:
        sys.stdout.write(text)
        return
    target = Path(path)
    partial = None
    try:
        descriptor, partial = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(partial, target)
    except OSError as error:
        if partial is not None:
            Path(partial).unlink(missing_ok=True)
        fact = error.strerror or str(error)
        raise SparseRTError(message(f"file '{target}'", "a file that can be written", fact)) from error


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
