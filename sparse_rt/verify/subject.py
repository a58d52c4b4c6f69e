"""What is verified: a model, its reference, and the feeds of both."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from sparse_rt.verify.reference import Reference

__all__ = ["Subject"]


@dataclass(frozen=True, eq=False)
class Subject:
    """A model and what it is held against.

    Attributes
    ----------
    model
        Prepared as a session prepares it.
    reference
        The dense model, in stock onnxruntime.
    reference_model
        The same, prepared, where it is another model, for the comparison of weights.
    feeds
        Of both.
    is_quantised
        Whether the model quantises activations.
    """

    model: ir.Model
    reference: Reference
    reference_model: ir.Model | None
    feeds: Mapping[str, NDArray[Any]]
    is_quantised: bool
