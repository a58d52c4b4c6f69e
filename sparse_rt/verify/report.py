"""What verify found."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from sparse_rt.verify.compare import Comparison

__all__ = ["LayerCheck", "OperatorCheck", "OutputCheck", "Status", "StepCheck", "VerifyReport"]

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

    in_use: bool = True
    """Whether the plan that ``run`` takes has this kernel; False for a sparse kernel that was slower here."""

    @property
    def status(self) -> Status:
        """Whether the layer does what the reference does."""
        if self.weight == "different":
            return "different"
        if self.comparison is None:
            return "unknown"
        return "equal" if self.comparison.equal else "different"


@dataclass(frozen=True)
class OperatorCheck:
    """One operator between layers that a kernel of ours runs, fed with the reference's own input."""

    name: str
    """Of its node."""

    op_type: str
    value: str
    """Name of what it writes."""

    rule: Literal["max", "step"]
    """``max`` for floats: |y - y_ref| <= 2^-10 max |y_ref|; ``step`` for bytes: what the reference's float rounds to,
    to either side if it lies next to a tie, or one step away where other values are rounded within."""

    comparison: Comparison | None
    """None where the operator could not be compared."""

    note: str = ""

    @property
    def status(self) -> Status:
        """Whether the operator does what the reference does."""
        if self.comparison is None:
            return "unknown"
        return "equal" if self.comparison.equal else "different"


@dataclass(frozen=True)
class StepCheck:
    """One value of the plan as it runs, against the step that computes it, run alone."""

    name: str
    """Of the layer, or of the operator's node."""

    step: str
    """The step as it runs: its kernel, what it reads and writes, where that lies in blocks of channels."""

    value: str
    """Name of the value."""

    comparison: Comparison
    """To the bit."""

    @property
    def status(self) -> Status:
        """Whether the value is the same both ways."""
        return "equal" if self.comparison.equal else "different"


@dataclass(frozen=True)
class OutputCheck:
    """One output of the model."""

    name: str
    rule: Literal["exact", "max", "rms"]
    """``exact`` for integers, and for floats that integer arithmetic alone leads to; ``max`` for other floats:
    |y - y_ref| <= tolerance x max |y_ref|; ``rms`` for floats of a model that quantises its activations:
    rms(y - y_ref) <= tolerance x rms(y_ref)."""

    tolerance: float
    comparison: Comparison | None
    """None where the output could not be compared."""

    cosine: float | None = None
    """Cosine of the angle between both outputs; floats only."""

    top1_agreement: float | None = None
    """Share of rows with the same largest element, for outputs that look like logits."""

    note: str = ""

    is_within_noise: bool = False
    """Whether the output breaks the rule by no more than the reference differs from itself between two executions:
    then nobody can say which is right."""

    @property
    def status(self) -> Status:
        """Whether the output is what the reference says."""
        if self.comparison is None or (self.is_within_noise and not self.comparison.equal):
            return "unknown"
        return "equal" if self.comparison.equal else "different"


_Check: TypeAlias = LayerCheck | OperatorCheck | StepCheck | OutputCheck
_KINDS: dict[type, str] = {LayerCheck: "layer", OperatorCheck: "operator", OutputCheck: "output"}


@dataclass(frozen=True)
class VerifyReport:
    """Dense against sparse: layer by layer, step by step within the running plan, and at the outputs."""

    model: str
    reference: str
    layers: tuple[LayerCheck, ...]
    outputs: tuple[OutputCheck, ...]
    steps: tuple[StepCheck, ...] = ()
    """Values inside the plan that ``run`` takes, then those inside the plan of sparse kernels where that is another."""

    sparse_outputs: tuple[OutputCheck, ...] = ()
    """Outputs of the plan of sparse kernels, where ``run`` takes another one."""

    operators: tuple[OperatorCheck, ...] = ()
    """Operators between layers, as kernels of ours run them one by one."""

    in_onnxruntime: bool = False
    """Whether onnxruntime runs the whole model here, so that `outputs` say nothing about kernels."""

    @property
    def status(self) -> Status:
        """``different`` if anything differs; ``unknown`` if an output could not be compared, or there is none."""
        found = [check.status for check in self._checks()]
        if "different" in found:
            return "different"
        outputs = [check.status for check in (*self.outputs, *self.sparse_outputs)]
        return "equal" if self._says_something and "unknown" not in outputs else "unknown"

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
        """Name of the first layer that differs, else operator, running step, output; None if nothing does."""
        found = self._first()
        return None if found is None else found.name

    @property
    def reason(self) -> str:
        """The verdict in words."""
        if self.status == "equal":
            compared = sum(layer.comparison is not None for layer in self.layers)
            text = f"equal: {compared} of {len(self.layers)} sparse layers compared, {len(self.outputs)} outputs"
            return f"{text}; onnxruntime runs the whole model here" if self.in_onnxruntime else text
        first = self._first()
        if first is not None:
            if isinstance(first, StepCheck):
                where = f"'{first.name}' as the plan runs it, {first.step}"
                return f"not equal: the first step that differs is {where}"
            return f"not equal: the first {_KINDS[type(first)]} that differs is '{first.name}'"
        notes = [check.note for check in (*self.outputs, *self.sparse_outputs) if check.status == "unknown"]
        why = "no output has an element" if self.outputs else "the models share no output"
        return f"cannot say: {notes[0] if notes else why}"

    @property
    def _says_something(self) -> bool:
        return any(check.comparison is not None and check.comparison.elements > 0 for check in self.outputs)

    def _checks(self) -> tuple[_Check, ...]:
        return (*self.layers, *self.operators, *self.steps, *self.outputs, *self.sparse_outputs)

    def _first(self) -> _Check | None:
        return next((check for check in self._checks() if check.status == "different"), None)
