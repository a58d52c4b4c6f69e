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
