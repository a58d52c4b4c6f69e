"""``python -m tests.trust``: run the tests behind every promise, and write docs/trust.md from what they said.

``python -m tests.trust REPORT.xml`` reads what an earlier ``pytest --junitxml=REPORT.xml`` of all tests said instead.
"""

import datetime
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from tests.trust.promises import LANES, PROMISES, Promise

_PAGE = Path("docs/trust.md")
_HEAD = """# What can be relied on

Each promise, the tests that hold it, and how many cases they are. A test compares with stock onnxruntime or with an
independent naive implementation, or says exactly which error must come. `python -m tests.trust` runs all of them and
writes this page.
"""


def main() -> None:
    """Run, write the page, and fail if a promise is not kept."""
    results = _results(Path(sys.argv[1])) if sys.argv[1:] else _run()
    broken = [promise for promise in PROMISES if not _is_kept(_count(promise, results))]
    lines = [_HEAD, f"Last run: {datetime.date.today()}, {_machine()}."]
    for section in dict.fromkeys(promise.section for promise in PROMISES):
        lines += ["", f"## {section}", "", "| promise | tests | cases |", "|---|---|---|"]
        lines += [_row(promise, results) for promise in PROMISES if promise.section == section]
    lines += ["", "## Longer lanes", "", "| command | what it tries | last run |", "|---|---|---|"]
    lines += [f"| `{lane.command}` | {lane.text} | {lane.last} |" for lane in LANES]
    _PAGE.write_text("\n".join(lines) + "\n")
    for promise in broken:
        print(f"not kept: {promise.text}", file=sys.stderr)
    raise SystemExit(bool(broken))


def _run() -> dict[tuple[str, str], Counter[str]]:
    nodes = list(dict.fromkeys(node for promise in PROMISES for node in promise.tests))
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        subprocess.run([sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *_files(nodes)], check=False)
        return _results(report)


def _files(nodes: list[str]) -> list[str]:
    """Return what pytest is to run: whole files swallow their functions."""
    whole = {node for node in nodes if "::" not in node}
    return [node for node in nodes if node in whole or node.split("::")[0] not in whole]


def _results(report: Path) -> dict[tuple[str, str], Counter[str]]:
    """Return how cases ended, by file and function."""
    results: dict[tuple[str, str], Counter[str]] = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        file = case.attrib["classname"].replace(".", "/") + ".py"
        ends = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        results.setdefault((file, case.attrib["name"].split("[")[0]), Counter())[ends[0] if ends else "passed"] += 1
    return results


def _count(promise: Promise, results: dict[tuple[str, str], Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for node in promise.tests:
        file, _, function = node.partition("::")
        found = [count for (path, name), count in results.items() if path == file and function in ("", name)]
        if not found:
            total["missing"] += 1
        for count in found:
            total += count
    return total


def _is_kept(count: Counter[str]) -> bool:
    return bool(count["passed"]) and not any(count[end] for end in ("failure", "error", "missing"))


def _row(promise: Promise, results: dict[tuple[str, str], Counter[str]]) -> str:
    count = _count(promise, results)
    cases = f"{count['passed']}"
    if count["skipped"]:
        cases += f", {count['skipped']} skipped"
    if not _is_kept(count):
        cases += f", **{count['failure'] + count['error']} failed, {count['missing']} missing**"
    return f"| {promise.text} | {', '.join(f'`{node}`' for node in promise.tests)} | {cases} |"


def _machine() -> str:
    import numba
    import onnxruntime

    from sparse_rt.bench.machine import cpu_name

    return f"{cpu_name()}, onnxruntime {onnxruntime.__version__}, numba {numba.__version__}"


main()
