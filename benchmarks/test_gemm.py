"""pytest-benchmark: every kernel on GEMM shapes. On demand: ``python -m pytest benchmarks/test_gemm.py``."""

from typing import Any

import pytest

from benchmarks.kernel_cases import kernels, matmul_call, shapes

NAMES = ("bert_base_attention", "bert_base_ffn_in", "bert_base_ffn_out", "dlrm_top_1")
LAYERS = [layer for layer in shapes("gemm")["layers"] if layer["name"] in NAMES]
SMALL = [layer for layer in shapes("small_m")["layers"] if layer["name"] == "bert_large_ffn_in"]
CASES = [(m, layer) for m in (128, 384) for layer in LAYERS] + [(m, layer) for m in (1, 4, 16) for layer in SMALL]


@pytest.mark.parametrize(("m", "layer"), CASES, ids=[f"{layer['name']}-m{m}" for m, layer in CASES])
@pytest.mark.parametrize("kernel", [*kernels("u8s8"), *kernels("f32")], ids=lambda kernel: str(kernel.name))
def test_gemm(benchmark: Any, kernel: Any, m: int, layer: dict[str, Any]) -> None:
    benchmark.group = f"{kernel.dtype} {layer['name']} m={m}"
    benchmark(matmul_call(kernel, m, layer["n"], layer["k"]))
