"""Sparse against dense kernels of one tier, our own both, in one process that takes turns.

    SPARSE_RT_TIER=avx2 python -m benchmarks.tier_ratios [u8s8|f32]

To compile for a narrower CPU as well, set the variables of tests/kernels/tier_lanes.py. Prints one line a shape, dense
time / sparse time of medians, and the geometric mean; exits with 1 if the sparse kernel loses anywhere.
"""

import math
import statistics
import sys
import time
from collections.abc import Callable

from sparse_rt_kernels.product import registry

from benchmarks.kernel_cases import conv_call, matmul_call, shapes

_SECONDS = 0.4
_LEAST_TURNS = 5


def _ratio(sparse: Callable[[], None], dense: Callable[[], None]) -> float:
    """Return the dense call's median time over the sparse one's, the two taking turns."""
    times: dict[Callable[[], None], list[float]] = {sparse: [], dense: []}
    for call in times:
        call()
    until = time.perf_counter() + _SECONDS
    while time.perf_counter() < until or len(times[sparse]) < _LEAST_TURNS:
        for call, taken in times.items():
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
    return statistics.median(times[dense]) / statistics.median(times[sparse])


def _report(title: str, ratios: dict[str, float]) -> bool:
    for name, ratio in ratios.items():
        print(f"{title:10} {name:34} {ratio:5.2f}{'' if ratio > 1 else '  loses'}", flush=True)
    mean = math.exp(statistics.fmean(math.log(ratio) for ratio in ratios.values()))
    print(f"{title:10} {'geometric mean':34} {mean:5.2f}   worst {min(ratios.values()):.2f}", flush=True)
    return min(ratios.values()) > 1


def main(dtypes: list[str]) -> int:
    """Print the ratios of each dtype; return 1 if the sparse kernel loses."""
    wins = True
    for dtype in dtypes or ["u8s8", "f32"]:
        sparse, dense = registry.select(dtype, "n2m4"), registry.select(dtype, "dense")
        print(f"{dtype}: {sparse.name} against {dense.name}")
        gemm = shapes("gemm")
        ratios = {
            f"{layer['name']} m={m}": _ratio(
                *(matmul_call(kernel, m, layer["n"], layer["k"]) for kernel in (sparse, dense))
            )
            for layer in gemm["layers"]
            for m in gemm["m"][:2]
        }
        wins &= _report("gemm", ratios)
        layers = shapes("resnet50_conv")["layers"]
        ratios = {layer["name"]: _ratio(*(conv_call(kernel, layer) for kernel in (sparse, dense))) for layer in layers}
        wins &= _report("conv", ratios)
    return 0 if wins else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
