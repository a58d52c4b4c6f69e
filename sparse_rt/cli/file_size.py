"""How large a model is on disk."""

import os
from pathlib import Path

from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from sparse_rt.graph import mapped

__all__ = ["model_bytes"]


def model_bytes(path: str | os.PathLike[str]) -> int:
    """Return the bytes of a model file and of the external data files that it names."""
    file = Path(path)
    proto = mapped.skeleton(file)
    named = {
        file.parent / ExternalDataInfo(tensor).location
        for tensor in proto.graph.initializer
        if uses_external_data(tensor)
    }
    return file.stat().st_size + sum(data.stat().st_size for data in named)
