"""How large a model is on disk."""

import os
from pathlib import Path

import onnx
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

__all__ = ["model_bytes"]


def model_bytes(path: str | os.PathLike[str]) -> int:
    """Return the bytes of a model file and of the external data files that it names."""
    file = Path(path)
    proto = onnx.load(os.fspath(file), load_external_data=False)
    named = {
        file.parent / ExternalDataInfo(tensor).location
        for tensor in proto.graph.initializer
        if uses_external_data(tensor)
    }
    return file.stat().st_size + sum(data.stat().st_size for data in named)
