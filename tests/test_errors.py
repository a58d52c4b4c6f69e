"""Errors of several classes at once, and what their module imports."""

import copy
import pickle
import subprocess
import sys

import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

import sparse_rt as srt
from sparse_rt.errors import also


def test_both_classes_are_one():
    assert also(srt.ResourceError, OSError) is also(srt.ResourceError, OSError)
    assert also(srt.FeedError, ValueError) is srt.FeedError
    assert type(srt.FeedError("a")) is type(srt.FeedError("b")) is also(srt.FeedError, InvalidArgument)


@pytest.mark.parametrize("kind", [srt.FeedError, ValueError, InvalidArgument, srt.SparseRTError])
def test_a_wrong_feed_is_what_a_program_for_onnxruntime_catches(kind):
    with pytest.raises(kind, match="too long") as found:
        raise srt.FeedError("too long")
    for again in (pickle.loads(pickle.dumps(found.value)), copy.copy(found.value)):
        assert type(again) is type(found.value)
        assert again.args == ("too long",)


def test_the_errors_import_no_onnxruntime():
    """Formats and patterns need no engine; what is raised before there is one is an error of ours all the same."""
    code = """if True:
        import pickle, sys
        from sparse_rt.errors import FeedError
        early = pickle.dumps(FeedError("early"))
        assert type(pickle.loads(early)) is FeedError
        assert not [name for name in sys.modules if name.startswith("onnxruntime")]
        from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument
        assert isinstance(FeedError("late"), InvalidArgument)
        assert isinstance(pickle.loads(early), InvalidArgument)
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
