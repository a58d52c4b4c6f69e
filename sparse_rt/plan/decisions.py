"""What was decided about a model's layers before kernels are chosen."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sparse_rt.plan.report import Trial

__all__ = ["Decisions", "LayerDecision"]


@dataclass(frozen=True)
class LayerDecision:
    """How a layer that a sparse kernel fits shall run.

    Attributes
    ----------
    kernel
        Name of the kernel of ours, sparse or dense; None leaves the layer to onnxruntime.
    reason
        In words, for the report.
    tried
        What was measured.
    """

    kernel: str | None
    reason: str
    tried: tuple[Trial, ...] = ()


@dataclass(frozen=True)
class Decisions:
    """What was decided about a model.

    Attributes
    ----------
    layers
        By the name of the value that the layer's operator writes. Others take the best sparse kernel.
    whole
        Why onnxruntime runs the whole model; None if it does not.
    tried
        The whole plans that were measured.
    hosted
        Why kernels run as operators inside one session of onnxruntime, which runs all else; None if they do not.
    """

    layers: Mapping[str, LayerDecision] = field(default_factory=dict)
    whole: str | None = None
    tried: tuple[Trial, ...] = ()
    hosted: str | None = None

    def of(self, name: str) -> LayerDecision | None:
        """Return the decision about the layer whose operator writes the value of that name."""
        found = self.layers.get(name)
        if self.whole is not None:
            return LayerDecision(None, self.whole, () if found is None else found.tried)
        return found
