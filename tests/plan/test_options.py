"""Options of a session."""

import pytest
from numba.core import config

import sparse_rt as srt


def test_options_of_tuning(monkeypatch):
    options = srt.SessionOptions(tuning="off", tuning_seconds=1)
    assert (options.copy().tuning, options.copy().tuning_seconds) == ("off", 1)
    for name, value in [("tuning", "maybe"), ("tuning", 1), ("tuning_seconds", -1), ("tuning_seconds", "long")]:
        with pytest.raises(srt.ConfigError, match=name):
            srt.SessionOptions(**{name: value})
    if not config.DISABLE_JIT:
        monkeypatch.setenv("SPARSE_RT_TUNING", "off")
        assert srt.SessionOptions().tuning_mode == "off"
        assert srt.SessionOptions(tuning="on").tuning_mode == "on"
        monkeypatch.setenv("SPARSE_RT_TUNING", "maybe")
        with pytest.raises(srt.ConfigError, match="SPARSE_RT_TUNING"):
            assert srt.SessionOptions().tuning_mode


def test_options():
    options = srt.SessionOptions(intra_op_num_threads=3)
    options.intra_op_num_threads = 2
    assert options.intra_op_num_threads == 2
    assert "intra_op_num_threads=2" in repr(options)
    for name, value in [
        ("intra_op_num_threads", -1),
        ("intra_op_num_threads", 1.5),
        ("inter_op", 1),
        ("log_severity_level", 9),
    ]:
        with pytest.raises(srt.ConfigError, match=name):
            setattr(options, name, value)
        with pytest.raises(srt.ConfigError, match=name):
            srt.SessionOptions(**{name: value})


def test_a_wrong_tier_in_the_environment_is_refused(monkeypatch):
    monkeypatch.setenv("SPARSE_RT_TIER", "mmx")
    with pytest.raises(srt.ConfigError, match="SPARSE_RT_TIER"):
        srt.SessionOptions()


@pytest.mark.parametrize(
    ("name", "value"),
    [("enable_profiling", 3), ("optimized_model_filepath", "optimised.onnx"), ("enable_mem_pattern", "maybe")],
)
def test_options_that_cannot_be_honoured_are_refused(name, value):
    with pytest.raises(srt.ConfigError, match=name):
        setattr(srt.SessionOptions(), name, value)
