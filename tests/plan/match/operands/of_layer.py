"""The operands of the only layer of a model."""

from sparse_rt.formats import MatrixWeight
from sparse_rt.graph import model_io
from sparse_rt.graph.layers.find import find_layers
from sparse_rt.plan.draft import Draft
from sparse_rt.plan.match.operands import operands
from tests.models.onnx_models import model


def of_layer(nodes, constants, inputs, outputs):
    parsed = model_io.read(model(nodes, inputs, outputs, constants))
    draft = Draft(parsed, find_layers(parsed))
    (layer,) = draft.layers
    return operands(draft.fusion(layer), MatrixWeight.of(layer.dense_weight()))
