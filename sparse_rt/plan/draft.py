"""A model on its way to a plan."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from sparse_rt.graph.layers.layer import Layer
from sparse_rt.plan.decisions import Decisions
from sparse_rt.plan.match.fusion import Fusion, fuse
from sparse_rt.plan.prepare.quantise_input import quantise_input

__all__ = ["Decide", "Draft"]


@dataclass(frozen=True, eq=False)
class Draft:
    """A model on its way to a plan: what decisions can be made from.

    Attributes
    ----------
    model
        Prepared; see :func:`sparse_rt.plan.prepare.prepare.prepare`.
    layers
        All of them, also those that no sparse kernel fits.
    """

    model: ir.Model
    layers: Sequence[Layer]
    _fusions: dict[Layer, Fusion] = field(default_factory=dict, init=False, repr=False)

    def fusion(self, layer: Layer) -> Fusion:
        """Return a layer with a constant weight, and the neighbours that its kernel computes along; found once.

        A layer that quantises its own input is one of integers then, behind a node that the graph now has.
        """
        found = self._fusions.get(layer)
        if found is None:
            found = self._fusions[layer] = fuse(quantise_input(layer) if layer.form == "dynamic" else layer)
        return found


#: Decides about a model between finding its layers and choosing their kernels.
Decide = Callable[[Draft], Decisions]
