"""``make versions``: compressed models in older versions of onnxruntime, without our kernels and with our library of
them registered, and our own islands in those that we allow.

    python tests/versions/lane.py [VERSION ...]

Each version is installed once, into a folder of its own under $SPARSE_RT_VERSIONS_DIR or .versions; none is imported
here. A compressed model must give what the dense one gives in the same version, bit for bit in integers. With the
library of :func:`sparse_rt.get_library_path` registered, every operator that it has must be left for it.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

from sparse_rt.graph.operators import COMPRESSED, DOMAIN  # noqa: E402
from sparse_rt.graph.passes.compress import compress  # noqa: E402
from sparse_rt.library.operators import domains  # noqa: E402
from tests.versions import cases  # noqa: E402
from tests.versions.onnxruntimes import OLDEST_THAT_WE_RUN_WITH, VERSIONS, numbers  # noqa: E402

#: Those before are built for NumPy 1.
FIRST_WITH_NUMPY_2 = (1, 19)
TOLERANCE = 1e-5
#: Of the quantised outputs of the cases, which are some thirty steps large.
ONE_STEP = 0.04
#: Dense models that a version may refuse, of some 660; more, and the lane would judge too little.
MOST_ABSENT = 80


def installed(version: str) -> Path:
    """Return the folder of a version, installed if it is not there."""
    folder = Path(os.environ.get("SPARSE_RT_VERSIONS_DIR", ROOT / ".versions")) / version
    if not (folder / "complete").exists():
        packages = [f"onnxruntime=={version}"] + (["numpy==1.26.4"] if numbers(version) < FIRST_WITH_NUMPY_2 else [])
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
        subprocess.run([*command, "--no-deps", "--target", str(folder), *packages], check=True)
        (folder / "complete").touch()
    return folder


def write_cases(folder: Path) -> dict[str, str]:
    """Write every case; return the operators of each in one text."""
    names = {}
    for case in (*cases.singles(), *cases.many()):
        place = folder / case.name
        place.mkdir()
        onnx.save(case.dense, place / "dense.onnx")
        onnx.save(compress(case.dense), place / "other.onnx")
        np.savez(place / "feeds.npz", **case.feeds)
        names[case.name] = " ".join(case.operators)
    return names


def library_operators() -> frozenset[str]:
    """Return the names of the operators that stand for compressed layers in our library."""
    return frozenset(each.name for domain in domains() if domain.name == DOMAIN for each in domain.operators)


def run(version: str, command: list[str], *, ours: bool) -> subprocess.CompletedProcess[str]:
    """Run Python with this version of onnxruntime before all others."""
    path = [str(installed(version)), *([str(ROOT), str(ROOT / "kernels")] if ours else [])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    return subprocess.run(
        [sys.executable, *command], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )


def operators_left(path: Path) -> Counter[str]:
    """Return the operators of a model that onnxruntime saved optimised."""
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def judge(version: str, folder: Path, names: dict[str, str], library: frozenset[str] | None = None) -> int:
    """Return how many cases fail in a version, and say which; `library` names the operators if ours is registered."""
    command = [
        str(Path(__file__).with_name("worker.py")),
        version,
        str(folder),
        *([] if library is None else ["library"]),
    ]
    result = run(version, command, ours=library is not None)
    title = f"onnxruntime {version}" + ("" if library is None else f", {len(library)} operators of ours registered")
    if result.returncode:
        print(f"{title}: the worker died\n{result.stderr[-2000:]}")
        return 1
    found = json.loads(result.stdout)
    failures, absent, changed = [], [], []
    for name, operators in names.items():
        outcome = found[name]
        if "dense" in outcome:
            absent.append(name)
        elif "error" in outcome:
            failures.append(f"{name}: {outcome['error']}")
        elif outcome["difference"] > _tolerance(operators, ours=library is not None):
            failures.append(f"{name}: differs by {outcome['difference']:.3g}")
        elif other_operators(folder / name, operators.split(), library or frozenset()):
            changed.append(name)
    count = len(names) - len(absent)
    print(
        f"{title}: {count - len(failures)} of {count} compressed models as the dense ones,"
        f" {len(absent)} dense ones do not run there, {len(changed)} are optimised to other operators",
        flush=True,
    )
    if len(absent) > MOST_ABSENT:
        failures.append(f"too few dense models run, not {', '.join(absent)}")
    failures += [f"{name}: is optimised to other operators than it should be" for name in changed]
    for line in failures:
        print(f"  FAILED {line}")
    return len(failures)


def _tolerance(operators: str, *, ours: bool) -> float:
    """Return how far a case with these operators may be off: not at all where its output is of sums of integers.

    A quantised ConvTranspose is computed in floats before its result is quantised: one next to a tie may become the
    next step where our kernels add in another order. And where the weight alone is quantised, newer versions of
    onnxruntime quantise x as well; our kernels do not.
    """
    forms = [COMPRESSED[name] for name in operators.split() if COMPRESSED[name].dense.form == "qdq"]
    if ours and any(form.dense.kind == "conv_transpose" or not form.neighbours.x for form in forms):
        return ONE_STEP
    return 0.0 if "Integer" in operators.replace("MatMulIntegerToFloat", "") else TOLERANCE


def other_operators(case: Path, operators: list[str], library: frozenset[str]) -> bool:
    """Return whether a case was optimised to others than those of the library, and otherwise those of the dense one."""
    left = operators_left(case / "other_saved.onnx")
    kept = Counter(name for name in operators if name in library)
    if kept:
        return Counter({name: left[name] for name in kept}) != kept
    return left != operators_left(case / "dense_saved.onnx")


def judge_islands(version: str) -> int:
    """Return whether the tests of our own islands fail in a version."""
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/plan/islands/test_compressed_islands.py"]
    result = run(version, command, ours=True)
    lines = result.stdout.strip().splitlines()
    print(f"onnxruntime {version}, our islands: {lines[-1] if lines else result.stderr[-300:]}")
    if result.returncode:
        print(result.stdout[-3000:], result.stderr[-1000:])
    return int(result.returncode != 0)


def main(wanted: list[str]) -> int:
    """Judge each version; return the number of failures."""
    failures = 0
    python = sys.version_info[:2]
    with tempfile.TemporaryDirectory(prefix="sparse_rt-versions-") as folder:
        names = write_cases(Path(folder))
        for version in wanted or VERSIONS:
            first, last = VERSIONS.get(version, (python, python))
            if not first <= python <= last:
                print(f"onnxruntime {version}: has no wheel for Python {python[0]}.{python[1]}, left out")
                continue
            failures += judge(version, Path(folder), names) + judge(version, Path(folder), names, library_operators())
            if numbers(version) >= numbers(OLDEST_THAT_WE_RUN_WITH):
                failures += judge_islands(version)
    print(f"{failures} failures")
    return int(failures > 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
