"""What onnxruntime tells of a node when it makes the kernel of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["NodeAttribute", "NodeDescription", "NodeInput"]

NodeAttribute = int | float | str | tuple[int, ...] | tuple[float, ...] | NDArray[Any]


class NodeInput(NamedTuple):
    """What is known of an input that only a run brings.

    Attributes
    ----------
    dtype
        Of its elements.
    shape
        None for a size that is not known, and for all of them where not even their number is.
    """

    dtype: np.dtype[Any]
    shape: tuple[int | None, ...] | None = None


@dataclass(frozen=True, eq=False)
class NodeDescription:
    """A node of the domain ``sparse_rt``.

    Inputs go by the names that the operator has for them, ``CompressedForm.inputs``, whatever the graph calls the
    values; those that the node leaves out are in neither mapping.

    Attributes
    ----------
    op_type
        The operator, a key of :data:`sparse_rt.graph.operators.COMPRESSED`.
    name
        Of the node; may be empty.
    attributes
        Those that the node has; a tensor as an array.
    constants
        The inputs that are constant. Their memory must stay while anything that was made of the node is used.
    inputs
        The others.
    """

    op_type: str
    name: str
    attributes: Mapping[str, NodeAttribute]
    constants: Mapping[str, NDArray[Any]]
    inputs: Mapping[str, NodeInput]
