"""``make versions``, its second half: compressed models in onnxruntime without Python, as the npm package ships it.

    python tests/versions/c_lane.py [VERSION ...]

The program is ``examples/c/run.c``. A compressed model must give what the dense one gives in the same version, bit for
bit in integers, by the functions in the file, and by the library of ``sparse-rt library`` where it serves the layer.
With the library it may instead give what the dense model gives without optimisations, since newer versions optimise
some models to others: they round the activations of a MatMul whose weight is dequantised (MatMulNBits).
Nothing is run where npm or a C compiler is missing; that is said.
"""

import itertools
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime as ort

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

from examples.c.fetch_onnxruntime import INTEGRITY, fetch  # noqa: E402
from sparse_rt.errors import SparseRTError  # noqa: E402
from sparse_rt.graph.passes.compress import compress  # noqa: E402
from sparse_rt.library.frozen.model_library import write_library  # noqa: E402
from tests.library import c_program  # noqa: E402
from tests.versions import cases  # noqa: E402

TOLERANCE = 1e-5
#: The program's exit status for an output that is not as expected.
DIFFERS = 2
#: Of so many forms one is tried; lane.py tries all.
EVERY = 5
#: Of a hundred dense models that a version may refuse.
MOST_ABSENT = 10


class Written(NamedTuple):
    """A case in a folder."""

    case: cases.Case
    folder: Path
    library: Path | None


def write_cases(folder: Path) -> list[Written]:
    """Write every case, and its library if kernels serve it."""
    found = []
    for case in itertools.islice(cases.singles(), 0, None, EVERY):
        place = folder / case.name
        place.mkdir()
        onnx.save(case.dense, place / "dense.onnx")
        onnx.save(compress(case.dense), place / "compressed.onnx")
        library: Path | None = place / "library.so"
        try:
            write_library(place / "compressed.onnx", library, threads=1, feeds=case.feeds)
        except SparseRTError:  # no layer is served; how many are is printed
            library = None
        found.append(Written(case, place, library))
    return found


def judge(program: Path, runtime: Path, written: Written) -> str | None:
    """Return what is wrong with a case: "" for nothing, None where the dense model does not run in this version."""
    case, folder = written.case, written.folder
    outputs = {output.name: folder / f"{output.name}.dense" for output in case.dense.graph.output}
    dense = c_program.run(program, runtime, folder / "dense.onnx", folder, case.feeds, saved=outputs, runs=1)
    if dense.returncode:
        return None
    expected = {name: np.fromfile(path, np.uint8) for name, path in outputs.items()}
    options = {"runs": 1, "tolerance": 0 if "Integer" in " ".join(case.operators) else TOLERANCE}
    compressed = (program, runtime, folder / "compressed.onnx", folder, case.feeds)
    found = c_program.run(*compressed, expected, **options)
    if found.returncode:
        return f"without library: {found.stderr}{found.stdout}"
    if written.library is None:
        return ""
    found = c_program.run(*compressed, expected, library=written.library, **options)
    if found.returncode == DIFFERS:
        found = c_program.run(*compressed, as_written(case), library=written.library, **options)
    return f"with library: {found.stderr}{found.stdout}" if found.returncode else ""


def as_written(case: cases.Case) -> dict[str, np.ndarray]:
    """Return what the dense model gives in the onnxruntime at hand, operator by operator."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(case.dense.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, case.feeds), strict=True))


def judge_version(program: Path, version: str, written: list[Written]) -> int:
    """Return how many cases fail in a version, and say which."""
    runtime = fetch(version, Path(os.environ.get("SPARSE_RT_VERSIONS_DIR", ROOT / ".versions")) / "c")
    found = {each.case.name: judge(program, runtime, each) for each in written}
    absent = [name for name, what in found.items() if what is None]
    failures = [f"{name}: {what[:40]} ... {what[-300:]}" for name, what in found.items() if what]
    if len(absent) > MOST_ABSENT * len(found) // 100:
        failures.append(f"too few dense models run, not {', '.join(absent)}")
    count = len(found) - len(absent)
    served = sum(each.library is not None and found[each.case.name] == "" for each in written)
    print(
        f"onnxruntime {version} from C: {count - len(failures)} of {count} compressed models as the dense ones,"
        f" {served} of them with a library, too; {len(absent)} dense ones do not run there",
        flush=True,
    )
    for line in failures:
        print(f"  FAILED {line}")
    return len(failures)


def main(wanted: list[str]) -> int:
    """Judge each version; return whether there are failures."""
    if c_program.COMPILER is None or shutil.which("npm") is None:
        print("from C: nothing is run, for npm or a C compiler is missing")
        return 0
    with tempfile.TemporaryDirectory(prefix="sparse_rt-c-") as folder:
        program, written = c_program.build(Path(folder)), write_cases(Path(folder))
        failures = sum(judge_version(program, version, written) for version in wanted or INTEGRITY)
    print(f"{failures} failures")
    return int(failures > 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
