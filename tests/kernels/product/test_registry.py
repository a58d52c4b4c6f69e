"""Names say what kernels are, and it is pinned which one each CPU gets."""

import re

import pytest
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.product import registry

from tests.kernels.conformance import by_name

NAME = re.compile(
    r"(?P<dtype>[a-z0-9]+)_(?P<format>[a-z0-9]+)_gemm_(?P<mr>\d+)x(?P<nr>\d+)(_\d+x\d+)*__(?P<isa>[a-z0-9]+)"
)


@pytest.mark.parametrize("kernel", registry.kernels(), ids=by_name)
def test_the_name_says_what_the_descriptor_says(kernel):
    parsed = NAME.fullmatch(kernel.name)
    assert parsed
    assert (parsed["dtype"], parsed["format"], int(parsed["mr"]), int(parsed["nr"]), parsed["isa"]) == (
        kernel.dtype,
        kernel.format,
        kernel.mr,
        kernel.nr,
        kernel.isa,
    )
    assert kernel.isa in isa.TIERS


PINNED = {
    ("u8s8", "n2m4", "avx512vnni"): "u8s8_n2m4_gemm_24x16__avx512vnni",
    ("u8s8", "n2m4", "avx512"): "u8s8_n2m4_gemm_24x16__avx512",
    ("u8s8", "n2m4", "avx2vnni"): "u8s8_n2m4_gemm_12x8__avx2vnni",
    ("u8s8", "n2m4", "avx2"): "u8s8_n2m4_gemm_12x8__avx2",
    ("u8s8", "n2m4", "generic"): "u8s8_n2m4_gemm_64x16__generic",
    ("u8s8", "dense", "avx512vnni"): "u8s8_dense_gemm_24x16__avx512vnni",
    ("u8s8", "dense", "avx512"): "u8s8_dense_gemm_24x16__avx512",
    ("u8s8", "dense", "avx2vnni"): "u8s8_dense_gemm_12x8__avx2vnni",
    ("u8s8", "dense", "avx2"): "u8s8_dense_gemm_12x8__avx2",
    ("f32", "n2m4", "avx512vnni"): "f32_n2m4_gemm_96x4_25x4__avx512",
    ("f32", "n2m4", "avx512"): "f32_n2m4_gemm_96x4_25x4__avx512",
    ("f32", "n2m4", "avx2vnni"): "f32_n2m4_gemm_48x2__avx2",
    ("f32", "n2m4", "avx2"): "f32_n2m4_gemm_48x2__avx2",
    ("f32", "dense", "avx512"): "f32_dense_gemm_96x4__avx512",
    ("f32", "dense", "avx2"): "f32_dense_gemm_48x2__avx2",
    ("f32", "n2m4", "generic"): "f32_n2m4_gemm_64x4__generic",
}


@pytest.mark.parametrize(("dtype", "format", "tier"), PINNED)
def test_which_kernel_is_chosen(dtype, format, tier, monkeypatch):
    tiers = list(isa.TIERS)
    monkeypatch.setattr(isa, "supported_tiers", lambda most: tuple(tiers[tiers.index(tier) :]))
    assert registry.select(dtype, format).name == PINNED[dtype, format, tier]


def test_every_dtype_runs_anywhere():
    for dtype in ("u8s8", "f32"):
        assert any(kernel.isa == "generic" for kernel in registry.kernels() if kernel.dtype == dtype)


def test_names_are_unique_and_unknown_dtypes_refused():
    with pytest.raises(ValueError, match="twice"):
        registry.register(registry.kernels()[0])
    with pytest.raises(LookupError, match="bf16"):
        registry.select("bf16", "n2m4")
