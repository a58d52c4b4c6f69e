"""The process as a host: errors are found again by what onnxruntime says of them."""

import ctypes

from sparse_rt.errors import FeedError
from sparse_rt.library import callbacks
from sparse_rt.library.host import HOST


def test_an_error_is_found_by_its_text():
    place = ctypes.c_int64()
    error = FeedError("layer 'one': expected 3 axes, got 2")
    assert callbacks._tell(error, ctypes.addressof(place)) == 0
    assert HOST.error_of(f"[ONNXRuntimeError] : Status Message: sparse_rt: {error}") is error
    assert HOST.error_of("[ONNXRuntimeError] : of another operator") is None
    assert ctypes.string_at(place.value).decode() == f"sparse_rt: {error}"
