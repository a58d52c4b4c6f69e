"""``make versions``, its second half: compressed models in onnxruntime without Python, as the npm package ships it.

    python tests/versions/c_lane.py [VERSION ...]

The program is ``examples/c/run.c``. A compressed model must give what the dense one gives in the same version, bit for
bit in integers. Nothing is run where npm or a C compiler is missing; that is said.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

from examples.c.fetch_onnxruntime import INTEGRITY, fetch  # noqa: E402
from sparse_rt.graph.passes.compress import compress  # noqa: E402
from tests.library import c_program  # noqa: E402
from tests.versions import cases  # noqa: E402

TOLERANCE = 1e-5
#: Dense models that a version may refuse.
MOST_ABSENT = 15


def judge(program: Path, runtime: Path, case: cases.Case, folder: Path) -> str | None:
    """Return what is wrong with a case: "" for nothing, None where the dense model does not run in this version."""
    folder.mkdir()
    outputs = {output.name: folder / f"{output.name}.dense" for output in case.dense.graph.output}
    for name, model in (("dense", case.dense), ("compressed", compress(case.dense))):
        onnx.save(model, folder / f"{name}.onnx")
    dense = c_program.run(program, runtime, folder / "dense.onnx", folder, case.feeds, saved=outputs, runs=1)
    if dense.returncode:
        return None
    expected = {name: np.fromfile(path, np.uint8) for name, path in outputs.items()}
    tolerance = 0 if "Integer" in " ".join(case.operators) else TOLERANCE
    found = c_program.run(
        *(program, runtime, folder / "compressed.onnx", folder, case.feeds, expected), runs=1, tolerance=tolerance
    )
    return found.stderr + found.stdout if found.returncode else ""


def judge_version(program: Path, version: str, folder: Path) -> int:
    """Return how many cases fail in a version, and say which."""
    runtime = fetch(version, Path(os.environ.get("SPARSE_RT_VERSIONS_DIR", ROOT / ".versions")) / "c")
    found = {case.name: judge(program, runtime, case, folder / case.name) for case in cases.singles()}
    absent = [name for name, what in found.items() if what is None]
    failures = [f"{name}: {what[-300:]}" for name, what in found.items() if what]
    if len(absent) > MOST_ABSENT:
        failures.append(f"too few dense models run, not {', '.join(absent)}")
    count = len(found) - len(absent)
    print(f"onnxruntime {version} from C: {count - len(failures)} of {count} compressed models as the dense ones")
    for line in failures:
        print(f"  FAILED {line}")
    return len(failures)


def main(wanted: list[str]) -> int:
    """Judge each version; return whether there are failures."""
    if c_program.COMPILER is None or shutil.which("npm") is None:
        print("from C: nothing is run, for npm or a C compiler is missing")
        return 0
    failures = 0
    for version in wanted or INTEGRITY:
        with tempfile.TemporaryDirectory(prefix="sparse_rt-c-") as folder:
            failures += judge_version(c_program.build(Path(folder)), version, Path(folder))
    print(f"{failures} failures")
    return int(failures > 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
