"""A session of stock onnxruntime with a library of sparse kernels; nothing else is imported, for memory is judged."""

from typing import Any

import onnxruntime as ort

__all__ = ["FROM_PYTHON", "WITHOUT", "open_session"]

FROM_PYTHON = "python"
"""The library that sparse_rt writes for processes that have Python."""

WITHOUT = "none"


def open_session(model: str, threads: int, library: str) -> Any:
    """Return a session of `model`; `library` is :data:`FROM_PYTHON`, :data:`WITHOUT` or a file."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    if library == FROM_PYTHON:
        # Here, not above: it is part of what the library costs.
        import sparse_rt

        library = sparse_rt.get_library_path()
    if library != WITHOUT:
        options.register_custom_ops_library(library)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
