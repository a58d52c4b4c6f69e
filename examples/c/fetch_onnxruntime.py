"""Fetch onnxruntime's shared library for x86-64 Linux, as the npm package onnxruntime-node ships it.

    python examples/c/fetch_onnxruntime.py [VERSION] [FOLDER]

npm fetches the package; its hash must be the one that stands here. Prints the library's path.
"""

import base64
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

__all__ = ["INTEGRITY", "fetch"]

#: SHA-512 of each package: the oldest version in which compressed files are promised to run, one between, the newest.
INTEGRITY = {
    "1.17.3": "NtbN1pfApTSEjVq46LrJ396aPP2Gjhy+oYZi5Bu1leDXAEvVap/BQ8CZELiLs7z0UnXy3xjJW23HiB4P3//FIw==",
    "1.23.2": "OBTsG0W8ddBVOeVVVychpVBS87A9YV5sa2hJ6lc025T97Le+J4v++PwSC4XFs1C62SWyNdof0Mh4KvnZgtt4aw==",
    "1.30.0": "twhs1C2C/BFkz1yc5OY0KIU2GUq6DURO7hD4bx5Q2Qy3nAMJwRXW8xU3NVczE29VA9lolLOYepoD8fjTGOfIqw==",
}
_LIBRARY = "/linux/x64/libonnxruntime.so"


def fetch(version: str, folder: Path) -> Path:
    """Return the library of a version in `folder`; fetch it, some 100 MB, if it is not there.

    Raises
    ------
    RuntimeError
        npm is missing or fails, or the package is not the one whose hash stands here.
    """
    place = folder / f"libonnxruntime-{version}.so"
    if place.exists():
        return place
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("npm: expected it on the path, got nothing. Debian's package is called npm.")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        command = [npm, "pack", "--silent", f"onnxruntime-node@{version}"]
        run = subprocess.run(command, cwd=temporary, capture_output=True, text=True, check=False, timeout=900)
        if run.returncode:
            raise RuntimeError(f"{' '.join(command[1:])}: exit status {run.returncode}: {run.stderr[-400:].strip()}")
        package = Path(temporary) / run.stdout.split()[-1]
        with package.open("rb") as file:
            found = base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
        if found != INTEGRITY[version]:
            raise RuntimeError(f"{package.name}: expected SHA-512 {INTEGRITY[version]}, got {found}.")
        with tarfile.open(package) as archive:
            member = next(each for each in archive.getmembers() if _LIBRARY in each.name)
            content = archive.extractfile(member)
            if content is None:
                raise RuntimeError(f"{package.name}: expected a file {member.name}, got something else.")
            part = Path(temporary) / "library"
            with part.open("wb") as file:
                shutil.copyfileobj(content, file)
        part.replace(place)
    return place


def main(version: str = "1.30.0", folder: str = ".") -> None:
    """Fetch one version."""
    if version not in INTEGRITY:
        raise SystemExit(f"VERSION: expected one of {', '.join(INTEGRITY)}, got '{version}'.")
    print(fetch(version, Path(folder)))


if __name__ == "__main__":
    main(*sys.argv[1:])
