"""All graphs by name, and what they are made into: float32 or quantised, dense or compressed."""

import functools

import onnx_ir as ir

from benchmarks.models.quantise import quantise_static
from sparse_rt.graph import model_io
from sparse_rt.graph.passes.compress import compress_model
from tests.models.graphs import convolutional, perceptrons, transformers

_MODULES = (convolutional, perceptrons, transformers)
GRAPHS = {
    name: build
    for module in _MODULES
    for name, build in vars(module).items()
    if callable(build) and getattr(build, "__code__", None) and build.__code__.co_varnames[:1] == ("sizes",)
}
GRAPHS |= {f"perceptron_{name}": perceptrons.perceptron(name) for name in perceptrons.ACTIVATIONS}

#: Graphs that hold all sizes of their inputs as constants, or all but the batch's.
FIXED = {"channel_shuffle", "attention_over_pixels", "patches", "recurrent"}
FIXED_BUT_BATCH = {"causal", "encoder_decoder", "flatten_and_gemm", "mixer"}


#: float32; everything quantised that onnxruntime's quantiser can; only the layers, as for transformers.
FORMS = ("float32", "int8", "int8 layers")
_LAYERS = ["Conv", "MatMul", "Gemm"]


@functools.lru_cache(maxsize=1024)
def dense(name, form, sizes):
    """The model in one of the forms, and its feeds; uint8 activations, int8 weights of a scale a channel."""
    if form == "float32":
        return GRAPHS[name](sizes)
    model, feeds = dense(name, "float32", sizes)
    return quantise_static(model, [feeds], op_types=_LAYERS if form == "int8 layers" else None), feeds


@functools.lru_cache(maxsize=1024)
def compressed(name, form, sizes):
    """The same with its sparse weights compressed, and its feeds."""
    model, feeds = dense(name, form, sizes)
    return ir.to_proto(compress_model(model_io.read(model)).model), feeds
