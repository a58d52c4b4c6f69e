"""``python -m tests.fuzz``: random models until the time is up; prints what is wrong, and statistics."""

import argparse
import collections
import time
import traceback
from pathlib import Path

import onnx

from tests.fuzz.graphs import make
from tests.fuzz.oracle import Finding, judge


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--first", type=int, default=None, help="the first seed; by default the time of day")
    parser.add_argument("--count", type=int, default=1 << 62)
    parser.add_argument("--keep", type=Path, help="a folder for models that fail")
    options = parser.parse_args()
    first = int(time.time()) * 1000 if options.first is None else options.first
    end = time.monotonic() + options.seconds
    statistics, failures = collections.Counter(), 0
    seed = first
    while time.monotonic() < end and seed - first < options.count:
        case = None
        try:
            case = make(seed)
            findings = judge(case)
        except Exception:
            findings = [Finding(seed, "fuzzer", " ".join(traceback.format_exc(limit=-1).split()))]
        if case is not None:
            statistics["exact" if case.exact else "general"] += 1
            statistics["nodes"] += len(case.model.graph.node)
            statistics.update(case.operators)
        for finding in findings:
            print(finding, flush=True)
        failures += bool(findings)
        if findings and options.keep and case is not None:
            options.keep.mkdir(parents=True, exist_ok=True)
            onnx.save(case.model, options.keep / f"{seed}.onnx")
        seed += 1
    print(f"seeds {first}..{seed - 1}: {seed - first} models, {failures} with findings")
    print(", ".join(f"{name} {count}" for name, count in statistics.most_common()))
    raise SystemExit(bool(failures))


main()
