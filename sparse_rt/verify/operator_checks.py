"""The operators between layers that kernels of ours run, each on its own, fed with the reference's input."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sparse_rt.errors import FeedError, ModelError
from sparse_rt.graph.layers.weights import constant_array
from sparse_rt.plan.steps.sparse_step import SparseStep
from sparse_rt.plan.steps.step import BindableStep
from sparse_rt.session import InferenceSession
from sparse_rt.verify.bounds import EPS
from sparse_rt.verify.compare import LEAST, Comparison, bounded
from sparse_rt.verify.report import OperatorCheck
from sparse_rt.verify.subject import Subject

__all__ = ["check_operators"]

#: Operators whose values are fetched in one run of the reference.
_OPERATORS_A_RUN = 64
#: Floats may differ by this share of the largest: functions are approximated, and sums taken in another order.
_FLOAT_TOLERANCE = 2.0**-10
#: Functions whose formula has a term of about 1, or of about x, that cancels where the result is small: engines differ
#: there by some roundings of that term.
_OF_ONE = frozenset({"Elu", "HardSigmoid", "Sigmoid", "Softplus"})
_OF_X = frozenset({"Gelu", "HardSwish"})
_ROUNDINGS = 4
#: Bytes are what the reference's float rounds to, give or take this part of a step where it lies next to a tie.
_TIE = 2.0**-5


def check_operators(session: InferenceSession, subject: Subject) -> tuple[OperatorCheck, ...]:
    """Return one check for each step of the subject's session that a kernel runs and that is no layer, in order.

    They are held against onnxruntime, without its graph optimisations if the model is quantised, since those round
    inner values.
    """
    return tuple(_Checker(session, subject).run(optimise=not subject.is_quantised))


class _Rounded(NamedTuple):
    """What QuantizeLinear makes bytes of: the float value's name, scale and zero point."""

    value: str
    scale: NDArray[np.float32]
    zero_point: int


class _Checker:
    def __init__(self, session: InferenceSession, subject: Subject) -> None:
        model = subject.model
        self._pool = session.pool
        self._reference = subject.reference
        self._given = {**session.plan.constants, **subject.feeds}
        self._steps = [step for step in session.plan.kernel_steps if isinstance(step, BindableStep)]
        self._steps = [step for step in self._steps if not isinstance(step, SparseStep)]
        quantising = [node for node in model.graph if node.op_type == "QuantizeLinear"]
        self._rounded = {str(node.outputs[0].name): found for node in quantising if (found := _rounded(node, model))}

    def run(self, *, optimise: bool) -> Iterator[OperatorCheck]:
        known = [step for step in self._steps if not self._missing(step)]
        names = dict.fromkeys(name for step in known for name in self._to_fetch(step))
        try:
            inside = self._reference.look_inside(names, optimise=optimise) if names else None
            for start in range(0, len(known), _OPERATORS_A_RUN):
                group = known[start : start + _OPERATORS_A_RUN]
                wanted = list(dict.fromkeys(name for step in group for name in self._to_fetch(step)))
                values = {**self._given, **(inside.values(wanted) if inside is not None and wanted else {})}
                yield from (self._compare(step, values) for step in group)
        except (ModelError, FeedError):
            # The model itself has run there: a value is of a type that NumPy lacks, say. Outputs decide.
            return

    def _to_fetch(self, step: BindableStep) -> list[str]:
        rounded = self._rounded.get(step.y)
        names = dict.fromkeys((*step.inputs, step.y, *([] if rounded is None else [rounded.value])))
        return [name for name in names if name not in self._given]

    def _missing(self, step: BindableStep) -> bool:
        """Return whether the reference lacks a value, such as what a DequantizeLinear of the plan's own writes."""
        return any(name not in self._reference.names for name in self._to_fetch(step))

    def _compare(self, step: BindableStep, values: Mapping[str, NDArray[Any]]) -> OperatorCheck:
        found = {name: values[name] for name in step.inputs}
        expected, note = values[step.y], ""
        comparison: Comparison | None = None
        try:
            if not all(isinstance(value, np.ndarray) for value in (expected, *found.values())):
                raise FeedError("no tensor")
            step.run(found, self._pool)
            y = found[step.y]
            if (y.shape, y.dtype) == (expected.shape, expected.dtype):
                comparison = self._compared(step, y, values)
            else:
                note = f"the reference has {expected.dtype} {list(expected.shape)}, here {y.dtype} {list(y.shape)}"
        except FeedError as error:  # it is another model
            note = f"its input in the reference does not fit: {error}"
        rule: Any = "max" if step.y_dtype.kind == "f" else "step"
        name = getattr(step, "name", "") or step.y
        return OperatorCheck(name, getattr(step, "op_type", type(step).__name__), step.y, rule, comparison, note)

    def _compared(self, step: BindableStep, y: NDArray[Any], values: Mapping[str, NDArray[Any]]) -> Comparison:
        expected = values[step.y]
        if y.dtype.kind == "f":
            lost = any(not np.isfinite(values[name]).all() for name in step.inputs)
            allowed = max(LEAST, _FLOAT_TOLERANCE * _largest(expected)) + _ROUNDINGS * EPS * _cancelled(step, values)
            return bounded(y, expected, np.asarray(allowed), may_lose_nan=lost)
        rounded = self._rounded.get(step.y)
        if rounded is None or getattr(step, "op_type", "") == "":
            # A step is allowed where other bytes are rounded within.
            return bounded(y.astype(np.float64), expected.astype(np.float64), np.ones(()), may_lose_nan=False)
        limits = np.iinfo(y.dtype)
        exact = values[rounded.value].astype(np.float64) / rounded.scale.astype(np.float64) + rounded.zero_point
        exact = np.clip(exact, limits.min, limits.max)
        # The reference's own byte is right whatever its float says, and so is ours if it is the same.
        near = np.where(y == expected, y, exact)
        return bounded(y.astype(np.float64), near, np.asarray(0.5 + _TIE), may_lose_nan=False)


def _cancelled(step: BindableStep, values: Mapping[str, NDArray[Any]]) -> float:
    """Return how large the terms are that cancel within a step's function."""
    op_type = getattr(step, "op_type", "")
    if op_type in _OF_X:
        return _largest(values[step.inputs[0]])
    return float(op_type in _OF_ONE)


def _largest(array: NDArray[Any]) -> float:
    finite = array[np.isfinite(array)]
    return float(np.abs(finite.astype(np.float64)).max(initial=0.0))


def _rounded(node: ir.Node, model: ir.Model) -> _Rounded | None:
    """Return what a QuantizeLinear by a constant scale, one for all, rounds."""
    value, scale, *points = node.inputs
    step = constant_array(scale)
    point = constant_array(points[0]) if points and points[0] is not None else np.zeros(())
    if value is None or step is None or point is None or step.size != 1 or point.size != 1:
        return None
    return _Rounded(str(value.name), step.reshape(()), int(point.reshape(())))
