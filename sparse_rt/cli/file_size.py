"""How large a model is on disk."""

import os
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from sparse_rt.errors import ModelError, message
from sparse_rt.external import ExternalData, check_regular, model_tensors
from sparse_rt.graph import mapped

__all__ = ["model_bytes"]


def model_bytes(path: str | os.PathLike[str]) -> int:
    """Return the bytes of a model file and of the external data files that it names.

    Raises
    ------
    ModelError
        The file cannot be read, or is no ONNX.
    """
    file = Path(path)
    where = f"model '{file}'"
    check_regular(file, where)
    try:
        proto = mapped.skeleton(file)
    except DecodeError as error:
        raise ModelError(message(where, "an ONNX file", "bytes that do not parse")) from error
    files = ExternalData(file, where)
    named = {
        files.real_location(tensor)
        for tensor in model_tensors(proto)
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    }
    return file.stat().st_size + sum(data.stat().st_size for data in named)
