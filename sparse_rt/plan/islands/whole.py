"""A model without sparse layers: all of it is onnxruntime's, as if we were not here."""

import os
from pathlib import Path

import onnx
import onnx_ir as ir
import onnxruntime as ort

from sparse_rt import stock
from sparse_rt.empty_pools import POOLS, may_be_empty
from sparse_rt.errors import ModelError, message
from sparse_rt.graph import model_io
from sparse_rt.graph.model_io import ModelSource
from sparse_rt.graph.passes.decompress import decompress_model, decompressed_nbytes
from sparse_rt.plan.islands.engine import Engine
from sparse_rt.plan.islands.onnxruntime_step import OnnxRuntimeStep, engine_of_file, engine_of_model
from sparse_rt.plan.islands.partition import Obstacle, Partition, default, partition
from sparse_rt.plan.options import SessionOptions
from sparse_rt.plan.signature import NodeArg, Signature

__all__ = ["whole"]

#: A protobuf ends at 2 GiB, and holds more than these weights.
_MOST_DECOMPRESSED = 1 << 30


def whole(source: ModelSource, model: ir.Model, signature: Signature, options: SessionOptions) -> Partition:
    """Return a model as one step of onnxruntime's.

    Parameters
    ----------
    source, model
        The model, and as it was read from there.

    Raises
    ------
    ModelError
        onnxruntime does not load it, or cannot hand out its outputs.
    """
    nbytes = decompressed_nbytes(model)
    decompressed = _decompressed(source) if 0 < nbytes < _MOST_DECOMPRESSED else None
    if decompressed is None and (nbytes or stock.misreads(source)):
        return _one_island(model, signature, options)
    engine = _engine(source if decompressed is None else decompressed, model, options, inside=decompressed is not None)
    outputs = tuple(_as_described(engine, item) for item in signature.outputs)
    names = tuple(dict.fromkeys(item.name for item in outputs))
    inputs = tuple(item.name for item in (*signature.inputs, *signature.overridable))
    step = OnnxRuntimeStep(engine, inputs, names, len(model.graph))
    defaults = {item.name: default(model, item.name) for item in signature.overridable}
    return Partition(Signature(signature.inputs, signature.overridable, outputs), (step,), defaults)


def _one_island(model: ir.Model, signature: Signature, options: SessionOptions) -> Partition:
    """Return a model that onnxruntime runs, but not from its file: with functions as we write them."""
    found = partition(model, signature, [], options)
    if isinstance(found, Obstacle):
        raise ModelError(message("model", "outputs that onnxruntime can hand out", found.reason))
    return found


def _decompressed(source: ModelSource) -> bytes:
    """Return a compressed model with dense weights.

    onnxruntime would decode them itself, in several times the memory, and keep all until it has loaded.
    """
    content: bytes = model_io.to_proto(decompress_model(model_io.read(source))).SerializeToString()
    return content


def _engine(source: ModelSource, model: ir.Model, options: SessionOptions, *, inside: bool) -> Engine:
    """Open a model in onnxruntime; `inside` says that the bytes at hand hold all of its data."""
    bodies = [model.graph.all_nodes(), *(function.all_nodes() for function in model.functions.values())]
    is_watched = may_be_empty(ir.serde.serialize_node(n) for body in bodies for n in body if n.op_type in POOLS)
    if isinstance(source, str | os.PathLike):
        return engine_of_file(os.fspath(source), options.onnxruntime_options, is_watched=is_watched)
    content = source.SerializeToString() if isinstance(source, onnx.ModelProto) else bytes(source)
    if inside:
        return engine_of_model(content, options.onnxruntime_options, is_watched=is_watched)
    folder = str(Path().resolve())

    def native() -> ort.SessionOptions:
        made = options.onnxruntime_options()
        made.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
        return made

    return engine_of_model(content, native, is_watched=is_watched)


def _as_described(engine: Engine, item: NodeArg) -> NodeArg:
    """Return a declared output as onnxruntime describes it, where it knows more."""
    session = engine.session
    found = {each.name: each for each in (*session.get_inputs(), *session.get_outputs())}.get(item.name)
    if found is None or not (item.has_rank or found.shape):
        return item
    return NodeArg(item.name, found.type, list(found.shape), True)
