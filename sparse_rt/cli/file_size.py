"""How large a model is on disk."""

import os
from pathlib import Path

import onnx

from sparse_rt.external import ExternalData, model_tensors
from sparse_rt.graph import mapped

__all__ = ["model_bytes"]


def model_bytes(path: str | os.PathLike[str]) -> int:
    """Return the bytes of a model file and of the external data files that it names."""
    file = Path(path)
    proto = mapped.skeleton(file)
    files = ExternalData(file, f"model '{file}'")
    named = {
        files.real_location(tensor)
        for tensor in model_tensors(proto)
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    }
    return file.stat().st_size + sum(data.stat().st_size for data in named)
