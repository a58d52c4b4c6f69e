"""Which tiers a CPU has, and how one is asked for."""

import pytest
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.product import registry

AVX2 = {"avx2", "fma"}
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512vl", "avx512dq"}
CPUS = {
    "nehalem": (set(), ["generic"]),
    "haswell": (AVX2, ["avx2", "generic"]),
    "alderlake": (AVX2 | {"avxvnni"}, ["avx2vnni", "avx2", "generic"]),
    "skylake-avx512": (AVX512, ["avx512", "avx2", "generic"]),
    "cascadelake": (AVX512 | {"avx512vnni"}, ["avx512", "avx2vnni", "avx2", "generic"]),
    "icelake-server": (
        AVX512 | {"avx512vnni", "avx512vbmi"},
        ["avx512vnni", "avx512", "avx2vnni", "avx2", "generic"],
    ),
}


@pytest.mark.parametrize("cpu", CPUS)
def test_tiers_of_known_cpus(cpu):
    features, expected = CPUS[cpu]
    assert [name for name in isa.TIERS if isa.fits(name, frozenset(features))] == expected


def test_a_tier_can_be_asked_for(monkeypatch):
    monkeypatch.delenv(isa.TIER_VARIABLE, raising=False)
    runnable = isa.supported_tiers()
    assert runnable[-1] == "generic"
    for number, name in enumerate(runnable):
        assert isa.supported_tiers(name) == runnable[number:]
        monkeypatch.setenv(isa.TIER_VARIABLE, name)
        assert isa.supported_tiers() == runnable[number:]
        assert isa.tier() == name
        assert registry.select("u8s8", "n2m4").isa in runnable[number:]
    assert isa.supported_tiers(runnable[0]) == runnable, "an argument outweighs the environment"


@pytest.mark.parametrize("wrong", ["avx1024", "AVX2", " "])
def test_unknown_tiers_are_refused(wrong, monkeypatch):
    with pytest.raises(ValueError, match="kernel tier: expected one of"):
        isa.supported_tiers(wrong)
    monkeypatch.setenv(isa.TIER_VARIABLE, wrong)
    with pytest.raises(ValueError, match=isa.TIER_VARIABLE):
        isa.supported_tiers()


def test_tiers_beyond_the_cpu_are_refused(monkeypatch):
    monkeypatch.setattr(isa, "_runnable_tiers", lambda: ("avx2", "generic"))
    with pytest.raises(ValueError, match="cannot run"):
        isa.supported_tiers("avx512vnni")
