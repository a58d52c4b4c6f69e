"""Run the conformance suite on every tier: one process a tier, told by Numba's variables that it is on such a CPU.

    python tests/kernels/tier_lanes.py [lane ...]

Each lane compiles into a cold cache of its own, so that test_tier_assembly.py, which runs last in the same process, can
read the machine code of all that the suite used. A tier that this CPU cannot run is compiled and read only. As many
lanes run at a time as there are CPUs; each is printed when it ends.
"""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import llvmlite.binding as llvm

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ROOT / "tests" / "kernels"
#: Kernels of the registry, whose tests have the tier in their names, and what reads the machine code of all others.
SUITE = ("test_conformance", "cpu/test_isa", "test_tier_assembly")
#: Native tasks of all tiers: plain vectors, as wide as the CPU's.
TASKS = (
    "threads/test_workers",
    "between/test_elementwise",
    "between/test_pooling",
    "between/test_depthwise",
    "between/test_direct_convolution",
    "between/test_attention",
)

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

#: Lanes that run TASKS, too: one for each width of registers, and that in which there are none.
TASK_LANES = {"generic", "generic, interpreted", "avx2", "avx512"}


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
    tasks = TASKS if lane in TASK_LANES else ()
    rooms = (*tasks, *SUITE) if runs else SUITE[-1:]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as cache:
        names = [room.rpartition("/")[2] for room in tasks]
        selected = ("-k", " or ".join((f"__{tier}", "test_tier", "test_isa", *names)))
        files = [str(ROOMS / f"{room}.py") for room in rooms]
        command = (sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files, *selected)
        done = subprocess.run(
            command, cwd=ROOT, env=environment(lane, cache), check=False, text=True, capture_output=True
        )
    print(f"--- lane {lane}: {'run' if runs else 'compiled and read, for this CPU cannot run it'}", flush=True)
    print(done.stdout + done.stderr, flush=True)
    result = "passed" if done.returncode == 0 else "FAILED"
    print(f"--- lane {lane}: {result} in {time.monotonic() - started:.0f} s", flush=True)
    return done.returncode == 0


def main(lanes):
    unknown = [lane for lane in lanes if lane not in LANES]
    if unknown:
        raise SystemExit(f"lanes: expected some of {', '.join(LANES)}, got {', '.join(unknown)}.")
    chosen = list(lanes or LANES)
    with ThreadPoolExecutor(os.cpu_count() or 1) as executor:
        passed = list(executor.map(run, chosen))
    failed = [lane for lane, has_passed in zip(chosen, passed, strict=True) if not has_passed]
    raise SystemExit(f"failed lanes: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
