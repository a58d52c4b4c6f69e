"""Reports for programs: one JSON document, to a file or to standard output."""

import json
import math
import sys
from typing import Any

from sparse_rt.output_file import open_output

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
    with open_output(path) as file:
        file.write(text.encode())


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
