"""The model's own description of itself."""

from dataclasses import dataclass

import onnx_ir as ir

__all__ = ["ModelMetadata"]


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """The attributes of onnxruntime's ``ModelMetadata``.

    Attributes
    ----------
    custom_metadata_map
        The model's ``metadata_props``.
    description, graph_description
        Of the model and of its graph.
    domain, graph_name, producer_name, version
        As in the file.
    """

    custom_metadata_map: dict[str, str]
    description: str
    domain: str
    graph_description: str
    graph_name: str
    producer_name: str
    version: int

    @staticmethod
    def of(model: ir.Model) -> "ModelMetadata":
        """Read the description of a model."""
        return ModelMetadata(
            custom_metadata_map=dict(model.metadata_props),
            description=model.doc_string or "",
            domain=model.domain or "",
            graph_description=model.graph.doc_string or "",
            graph_name=model.graph.name or "",
            producer_name=model.producer_name or "",
            version=model.model_version or 0,
        )
