"""Run the conformance suite on every tier: one process a tier, told by Numba's variables that it is on such a CPU.

    python tests/kernels/tier_lanes.py [lane ...]

Each lane compiles into a cold cache of its own, so that test_tier_assembly.py, which runs last in the same process, can
read the machine code of all that the suite used. A tier that this CPU cannot run is compiled and read only.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import llvmlite.binding as llvm

ROOT = Path(__file__).resolve().parents[2]
SUITE = ("tests/kernels/test_conformance.py", "tests/kernels/test_tiers.py", "tests/kernels/test_tier_assembly.py")

BASE = "sse sse2 sse3 ssse3 sse4.1 sse4.2 popcnt cx8 cx16 cmov mmx fxsr 64bit sahf"
AVX2 = f"{BASE} avx avx2 fma f16c bmi bmi2 lzcnt movbe xsave"
AVX512 = f"{AVX2} avx512f avx512cd avx512bw avx512dq avx512vl"

# lane: (tier, LLVM's CPU, its features, further variables)
LANES = {
    "generic": ("generic", "generic", "", {}),
    "generic, bounds checked": ("generic", "generic", "", {"NUMBA_BOUNDSCHECK": "1"}),
    "generic, interpreted": ("generic", "generic", "", {"NUMBA_DISABLE_JIT": "1"}),
    "avx2": ("avx2", "haswell", AVX2, {}),
    "avx2vnni": ("avx2vnni", "alderlake", f"{AVX2} avxvnni", {}),
    "avx512": ("avx512", "skylake-avx512", AVX512, {}),
}


def can_run(features):
    host = llvm.get_host_cpu_features()
    return all(host.get(name, False) for name in features.split())


def environment(lane, cache):
    tier, cpu, features, more = LANES[lane]
    own = {"NUMBA_CPU_NAME": cpu, "SPARSE_RT_CACHE_DIR": cache, "SPARSE_RT_LANE": tier, **more}
    if features:
        own["NUMBA_CPU_FEATURES"] = ",".join(f"+{name}" for name in features.split())
    kept = {name: value for name, value in os.environ.items() if name != "SPARSE_RT_TIER"}
    return {**kept, **own}


def run(lane):
    tier, _, features, _ = LANES[lane]
    runs = can_run(features)
    files = SUITE if runs else SUITE[-1:]
    print(f"--- lane {lane}: {'run' if runs else 'compiled and read, for this CPU cannot run it'}", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as cache:
        selected = ("-k", f"__{tier} or test_tier")
        command = (sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *files, *selected)
        status = subprocess.run(command, cwd=ROOT, env=environment(lane, cache), check=False).returncode
    print(f"--- lane {lane}: {'passed' if status == 0 else 'FAILED'} in {time.monotonic() - started:.0f} s", flush=True)
    return status == 0


def main(lanes):
    unknown = [lane for lane in lanes if lane not in LANES]
    if unknown:
        raise SystemExit(f"lanes: expected some of {', '.join(LANES)}, got {', '.join(unknown)}.")
    failed = [lane for lane in lanes or LANES if not run(lane)]
    raise SystemExit(f"failed lanes: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
