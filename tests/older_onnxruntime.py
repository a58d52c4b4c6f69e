"""What the onnxruntime at hand cannot run, dense or not, is no failure of ours: Python 3.10 gets none after 1.23."""

import contextlib

import onnxruntime
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, NotImplemented

VERSION = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
_INLINED = "_inlfunc_"  # names of nodes that come from a function body of ours


@contextlib.contextmanager
def skipped():
    """Skip the test where onnxruntime lacks an operator that the dense model has, or its opset."""
    try:
        yield
    except NotImplemented as error:
        if _INLINED in str(error):
            raise
        pytest.skip(f"this onnxruntime: {error}")
    except Fail as error:
        if "opset" not in str(error):
            raise
        pytest.skip(f"this onnxruntime: {error}")
