"""A model's description is that of stock onnxruntime."""

import onnxruntime as ort

from sparse_rt.graph import model_io
from sparse_rt.plan.metadata import ModelMetadata
from tests.models.onnx_models import info, model, node


def test_all_fields_are_onnxruntimes():
    proto = model([node("Neg", ["x"], ["y"])], [info("x", 2)], [info("y", 2)])
    proto.doc_string, proto.graph.doc_string, proto.domain = "a model", "a graph", "org.example"
    proto.producer_name, proto.model_version = "somebody", 7
    entry = proto.metadata_props.add()
    entry.key, entry.value = "license", "none"
    ours = ModelMetadata.of(model_io.read(proto))
    theirs = ort.InferenceSession(proto.SerializeToString()).get_modelmeta()
    for name in ("custom_metadata_map", "description", "domain", "graph_description", "graph_name", "version"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.producer_name == theirs.producer_name == "somebody"
