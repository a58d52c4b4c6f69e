"""A model as the dense engine profiles it: its layers dense, and a name for every node."""

from pathlib import Path

import onnx_ir as ir

from sparse_rt.graph import model_io, model_writer
from sparse_rt.graph.layers.find import find_layers
from sparse_rt.graph.passes.decompress import decompress_model

__all__ = ["named_dense_file", "named_dense_model"]


def named_dense_model(path: str) -> tuple[ir.Model, bool]:
    """Return the model at `path`, and whether it had to be changed.

    Compressed layers become dense: those of a file that onnxruntime decodes bear names of its own. A node without a
    name gets that of its first output, as layers do.
    """
    model = model_io.read(path)
    changed = any(layer.stored is not None for layer in find_layers(model))
    if changed:
        model = decompress_model(model)
    for node in model.graph:
        if not node.name:
            node.name, changed = str(node.outputs[0].name), True
    return model, changed


def named_dense_file(path: str, folder: Path) -> str:
    """Return `path`, or a file in `folder` with :func:`named_dense_model` where that is another model."""
    model, changed = named_dense_model(path)
    if not changed:
        return path
    file = folder / "dense.onnx"
    model_writer.write(model, file)
    return str(file)
