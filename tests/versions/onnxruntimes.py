"""The versions of onnxruntime in which compressed files are tried; nothing else in the repository lists them."""

import re
import tomllib
from pathlib import Path

__all__ = ["OLDEST_PROMISED", "OLDEST_THAT_WE_RUN_WITH", "VERSIONS", "numbers"]

_PROJECT = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())["project"]


def numbers(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version."""
    return tuple(int(part) for part in version.split(".")[:2])


def _oldest(package: str) -> str:
    """Return the oldest version of a dependency that pyproject.toml allows."""
    found = (re.fullmatch(rf"{package}>=([\d.]+)", each) for each in _PROJECT["dependencies"])
    return next(match[1] for match in found if match)


#: From here on compressed files run, without sparse_rt.
OLDEST_PROMISED = "1.17.3"
OLDEST_THAT_WE_RUN_WITH = _oldest("onnxruntime")

#: Each with the Pythons that it has wheels for: the oldest that is promised, four from between, the last that ignores
#: overloads, the oldest that sparse_rt itself runs with.
VERSIONS = {
    OLDEST_PROMISED: ((3, 8), (3, 12)),
    "1.19.2": ((3, 8), (3, 12)),
    "1.21.1": ((3, 10), (3, 13)),
    "1.23.2": ((3, 10), (3, 13)),
    "1.24.4": ((3, 11), (3, 14)),
    "1.26.0": ((3, 11), (3, 14)),
    OLDEST_THAT_WE_RUN_WITH: ((3, 11), (3, 14)),
}
