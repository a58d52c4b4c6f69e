"""What verify found."""

from dataclasses import dataclass
from typing import Literal

from sparse_rt.verify.compare import Comparison

__all__ = ["LayerCheck", "OutputCheck", "Status", "VerifyReport"]

Status = Literal["equal", "different", "unknown"]
_EXIT_CODES: dict[Status, int] = {"equal": 0, "different": 1, "unknown": 2}


@dataclass(frozen=True)
class LayerCheck:
    """One sparse layer, fed with the reference's own input."""

    name: str
    op_type: str
    kernel: str
    rule: Literal["exact", "bound"]
    """``exact`` for integer outputs; ``bound`` for floats: |y - y_ref| <= c (k + 1) eps (|X| |W|^T + |b|)."""

    weight: Literal["equal", "different", "same file", "not compared"]
    """The decoded weight against the reference's, where the reference is another model."""

    comparison: Comparison | None
    """None where the layer could not be compared."""

    note: str = ""
    """Why it could not be compared, or what else there is to say."""

    @property
    def status(self) -> Status:
        """Whether the layer does what the reference does."""
        if self.weight == "different":
            return "different"
        if self.comparison is None:
            return "unknown"
        return "equal" if self.comparison.equal else "different"


@dataclass(frozen=True)
class OutputCheck:
    """One output of the model."""

    name: str
    rule: Literal["exact", "max", "rms"]
    """``exact`` for integers; ``max`` for floats: |y - y_ref| <= tolerance x max |y_ref|; ``rms`` for floats of a model
    that quantises its activations: rms(y - y_ref) <= tolerance x rms(y_ref)."""

    tolerance: float
    comparison: Comparison | None
    """None where the output could not be compared."""

    cosine: float | None = None
    """Cosine of the angle between both outputs; floats only."""

    top1_agreement: float | None = None
    """Share of rows with the same largest element, for outputs that look like logits."""

    note: str = ""

    @property
    def status(self) -> Status:
        """Whether the output is what the reference says."""
        if self.comparison is None:
            return "unknown"
        return "equal" if self.comparison.equal else "different"


@dataclass(frozen=True)
class VerifyReport:
    """Dense against sparse, layer by layer and at the outputs."""

    model: str
    reference: str
    layers: tuple[LayerCheck, ...]
    outputs: tuple[OutputCheck, ...]

    @property
    def status(self) -> Status:
        """``different`` if anything differs; ``unknown`` if an output could not be compared, or there is none."""
        outputs = [check.status for check in self.outputs]
        if "different" in outputs or any(layer.status == "different" for layer in self.layers):
            return "different"
        return "equal" if outputs and "unknown" not in outputs else "unknown"

    @property
    def equal(self) -> bool:
        """Whether the model is proved to do what the reference does."""
        return self.status == "equal"

    @property
    def exit_code(self) -> int:
        """0 equal, 1 not equal, 2 cannot say."""
        return _EXIT_CODES[self.status]

    @property
    def first_difference(self) -> str | None:
        """Name of the first layer that differs, else of the first output; None if nothing does."""
        checks: tuple[LayerCheck | OutputCheck, ...] = (*self.layers, *self.outputs)
        for check in checks:
            if check.status == "different":
                return check.name
        return None

    @property
    def reason(self) -> str:
        """The verdict in words."""
        if self.status == "equal":
            compared = sum(layer.comparison is not None for layer in self.layers)
            return f"equal: {compared} of {len(self.layers)} sparse layers compared, {len(self.outputs)} outputs"
        if self.status == "different":
            kind = "layer" if any(layer.status == "different" for layer in self.layers) else "output"
            return f"not equal: the first {kind} that differs is '{self.first_difference}'"
        notes = [check.note for check in self.outputs if check.note]
        return f"cannot say: {notes[0] if notes else 'the models share no output'}"
