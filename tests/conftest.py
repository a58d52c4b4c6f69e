"""Sessions of all tests but those of tuning run every layer that a sparse kernel fits on it: models here are tiny."""

import os

import pytest

import sparse_rt as srt
from sparse_rt.demo_data import DENSE_MODEL, SPARSE_INT8_MODEL, SPARSE_MODEL, read_model

os.environ["SPARSE_RT_TUNING"] = "sparse"


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Paths of the demo's models: dense, pruned (2:4), int8 (2:4, QDQ) and the compressed twins of the last two."""
    folder = tmp_path_factory.mktemp("models")
    names = {"dense": DENSE_MODEL, "pruned": SPARSE_MODEL, "int8": SPARSE_INT8_MODEL}
    paths = {}
    for name, file in names.items():
        paths[name] = folder / f"{name}.onnx"
        paths[name].write_bytes(read_model(file))
    for name in ("pruned", "int8"):
        paths[f"{name}_compressed"] = folder / f"{name}_compressed.onnx"
        paths[f"{name}_compressed"].write_bytes(srt.compress(str(paths[name])).SerializeToString())
    return paths
