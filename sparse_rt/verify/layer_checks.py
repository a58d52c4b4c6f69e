"""Every sparse layer on its own, fed with the reference's input."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt.errors import FeedError, ModelError
from sparse_rt.graph.layers.find import find_layers
from sparse_rt.graph.layers.layer import Layer
from sparse_rt.graph.layers.weights import constant_array
from sparse_rt.plan.match.fusion import Fusion, fuse
from sparse_rt.plan.prepare.quantise_input import quantise_input
from sparse_rt.plan.steps.sparse_step import SparseStep
from sparse_rt.session import InferenceSession
from sparse_rt.verify.bounds import EPS, elementwise_bound, end_to_end_tolerance
from sparse_rt.verify.compare import Comparison, bounded, exact, within
from sparse_rt.verify.dynamic_input import DynamicInputs
from sparse_rt.verify.exactness import is_sum_of_integers
from sparse_rt.verify.reference import Inside
from sparse_rt.verify.report import LayerCheck
from sparse_rt.verify.subject import Subject

__all__ = ["check_layers"]

#: Layers whose values are fetched in one run of the reference.
_LAYERS_A_RUN = 16


def check_layers(session: InferenceSession, subject: Subject) -> tuple[LayerCheck, ...]:
    """Return one check for each sparse step of a session of the subject's model, in order of execution."""
    return _Checker(session, subject).run()


class _Checker:
    def __init__(self, session: InferenceSession, subject: Subject) -> None:
        self._session = session
        self._is_quantised = subject.is_quantised
        self._reference = subject.reference
        # Known without a run of the reference.
        self._given = {**session.plan.constants, **subject.feeds}
        self._steps = [step for step in session.plan.kernel_steps if isinstance(step, SparseStep)]
        self._op_types = {report.name: report.op_type for report in session.explain()}
        runnable = [layer for layer in find_layers(subject.model) if layer.reason is None]
        plain = [fuse(layer) for layer in runnable if layer.form != "dynamic"]
        dynamic = [fuse(quantise_input(layer)) for layer in runnable if layer.form == "dynamic"]
        self._dynamic_inputs = DynamicInputs(dynamic)
        # By output, since names need not be unique.
        self._fusions = {str(fusion.y.name): fusion for fusion in (*plain, *dynamic)}
        self._reference_layers: dict[str, Layer] | None = None
        if subject.reference_model is not None:
            self._reference_layers = {layer.name: layer for layer in find_layers(subject.reference_model)}

    def run(self) -> tuple[LayerCheck, ...]:
        checks: dict[str, LayerCheck] = {}
        comparable = [step for step in self._steps if not self._missing(step)]
        # onnxruntime rounds floats that are quantised later on, if it may, and fuses what leads from bytes to bytes.
        floats = [step for step in comparable if self._is_quantised and self._are_floats(step)]
        others = [step for step in comparable if step not in floats]
        for steps, optimise in ((floats, False), (others, True)):
            checks.update(self._compared(steps, optimise=optimise))
        return tuple(checks.get(step.y) or self._not_compared(step) for step in self._steps)

    def _compared(self, steps: Sequence[SparseStep], *, optimise: bool) -> dict[str, LayerCheck]:
        """Return the checks of layers, by what they write; all of it from one session of the reference."""
        names = dict.fromkeys(name for step in steps for name in self._to_fetch(step))
        checks: dict[str, LayerCheck] = {}
        try:
            inside = self._reference.look_inside(names, optimise=optimise) if names else None
            for start in range(0, len(steps), _LAYERS_A_RUN):
                group = steps[start : start + _LAYERS_A_RUN]
                values = self._fetch(group, inside)
                checks.update((step.y, self._compare(step, values)) for step in group)
        except (ModelError, FeedError) as error:
            # The model itself has run there: a value is of a type that NumPy lacks, say.
            note = f"onnxruntime does not show its values: {error}"
            checks.update((step.y, self._check(step, None, note)) for step in steps if step.y not in checks)
        return checks

    def _are_floats(self, step: SparseStep) -> bool:
        return step.y_dtype.kind == "f" or self._rounded(step) is not None

    def _rounded(self, step: SparseStep) -> Fusion | None:
        """Return the fusion of a layer whose bytes are rounded floats in the reference; None for all others."""
        fusion = None if step.residual is not None else self._fusion(step)
        if fusion is None or fusion.layer.form != "qdq" or fusion.y_quantised is None:
            return None
        affine = fusion.multiplier is not None or fusion.bias is not None
        clipped = np.isfinite([fusion.low, fusion.high]).any()
        is_exact = is_sum_of_integers(fusion.layer) and not affine and not clipped
        return None if is_exact or fusion.absorbed[-1].op_type != "QuantizeLinear" else fusion

    def _to_fetch(self, step: SparseStep) -> list[str]:
        rounded = self._rounded(step)
        before = [] if rounded is None else [_float_of(rounded)]
        names = dict.fromkeys(self._dynamic_inputs.source(name) for name in (*step.inputs, step.y, *before))
        return [name for name in names if name not in self._given]

    def _missing(self, step: SparseStep) -> list[str]:
        return [name for name in self._to_fetch(step) if name not in self._reference.names]

    def _fetch(self, steps: Sequence[SparseStep], inside: Inside | None) -> dict[str, NDArray[Any]]:
        names = list(dict.fromkeys(name for step in steps for name in self._to_fetch(step)))
        values = {**self._given, **(inside.values(names) if inside is not None and names else {})}
        self._dynamic_inputs.add_to(values)
        return values

    def _check(self, step: SparseStep, comparison: Comparison | None, note: str) -> LayerCheck:
        return LayerCheck(
            name=step.name,
            op_type=self._op_types.get(step.name, ""),
            kernel=step.kernel.name,
            rule="bound" if self._are_floats(step) else "exact",
            weight=self._compare_weight(step),
            comparison=comparison,
            note=note,
        )

    def _not_compared(self, step: SparseStep) -> LayerCheck:
        return self._check(step, None, f"the reference has no value '{self._missing(step)[0]}'")

    def _compare_weight(self, step: SparseStep) -> Any:
        if self._reference_layers is None:
            return "same file"
        fusion, theirs = self._fusion(step), self._reference_layers.get(step.name)
        ours = None if fusion is None else fusion.layer
        if ours is None or theirs is None or (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
            return "not compared"
        if theirs.stored is None and theirs.weight is None:
            return "not compared"
        equal_nan = ours.dtype.kind == "f"
        return "equal" if np.array_equal(ours.dense_weight(), theirs.dense_weight(), equal_nan) else "different"

    def _compare(self, step: SparseStep, values: Mapping[str, NDArray[Any]]) -> LayerCheck:
        expected = values[step.y]
        found = {name: values[name] for name in step.inputs}
        if not all(isinstance(value, np.ndarray) for value in (expected, *found.values())):
            return self._check(step, None, "it reads or writes no tensor in the reference")
        try:
            step.run(found, self._session.pool)
        except FeedError as error:
            return self._check(step, None, f"its input in the reference does not fit: {error}")
        y = found[step.y]
        if self._reference_layers is not None and (y.shape, y.dtype) != (expected.shape, expected.dtype):
            forms = f"{expected.dtype} {list(expected.shape)}, here {y.dtype} {list(y.shape)}"
            return self._check(step, None, f"the reference has another value by that name: {forms}")
        if (rounded := self._rounded(step)) is not None:
            comparison = self._compare_rounded(step, rounded, y, values)
        elif step.y_dtype.kind != "f":
            comparison = exact(y, expected)
        elif (fusion := self._fusion(step)) is None:
            # A layer of a function of the model, whose terms are not at hand.
            tolerance = end_to_end_tolerance([step.packed.k])
            comparison = within(y, expected, tolerance, may_lose_nan=not np.isfinite(found[step.x]).all())
        else:
            allowed = self._bound(step, fusion, values)
            if step.residual is not None:
                # One more rounding, that of the sum, which both compute from the layer's own result.
                allowed += 2 * EPS * (np.abs(expected) + np.abs(values[step.residual]))
            finite = found[step.x].dtype.kind != "f" or bool(np.isfinite(found[step.x]).all())
            comparison = bounded(y, expected, allowed, may_lose_nan=not finite)
        return self._check(step, comparison, comparison.note)

    def _compare_rounded(
        self, step: SparseStep, fusion: Fusion, y: NDArray[Any], values: Mapping[str, NDArray[Any]]
    ) -> Comparison:
        """Compare bytes with the floats that the reference rounds, whose bound tells which ties may go either way."""
        expected, parameters = values[step.y], fusion.y_quantised
        if parameters is None or y.shape != expected.shape:
            return exact(y, expected)
        limits = np.iinfo(step.y_dtype)
        steps = values[_float_of(fusion)].astype(np.float64) / float(parameters.scale) + parameters.zero_point
        # The reference's own byte is right whatever its float says, and so is ours if it is the same.
        near = np.where(y == expected, y, np.clip(steps, limits.min, limits.max))
        allowed = 0.5 + self._bound(step, fusion, values) + EPS * np.abs(steps)
        return bounded(y.astype(np.float64), near, allowed, may_lose_nan=False)

    def _fusion(self, step: SparseStep) -> Fusion | None:
        """Return what a step was made from; where it adds a residual, the layer that it has taken the Add over to."""
        return self._fusions.get(step.y if step.residual is None else step.apart[0].outputs[0])

    def _bound(self, step: SparseStep, fusion: Fusion, values: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        x, layer = values[step.x], fusion.layer
        epilogue = dataclasses.asdict(step.epilogue)  # by name: this room does not see the kernels' classes
        bias = np.abs(epilogue["bias"])
        if "offset" not in epilogue:
            alpha = layer.attributes.get("alpha")
            scale = np.asarray(1 if layer.weight_scale is None else layer.weight_scale, np.float32)
            if isinstance(alpha, int | float):
                scale = scale * np.float32(alpha)
            if fusion.multiplier is not None:
                scale = scale * fusion.multiplier
            return elementwise_bound(layer, x.astype(np.float32), scale, bias)
        # A float made of integers: the scale holds those of x and w, the offset the integer bias.
        zero_point = self._x_zero_point(step, fusion, values)
        factor = epilogue["scale"] if step.scale is None else epilogue["scale"] * values[step.scale].reshape(-1)
        integer_bias = self._integer_bias(step, layer, epilogue["offset"], zero_point)
        real = x.astype(np.float32) - np.float32(zero_point)
        return elementwise_bound(layer, real, factor, bias + np.abs(integer_bias * factor))

    def _integer_bias(
        self, step: SparseStep, layer: Layer, offset: NDArray[np.int32], zero_point: int
    ) -> NDArray[np.float64]:
        if step.requantisation is not None:
            return step.requantisation.bias_integer.astype(np.float64)
        # The offset of a kernel is the bias less zero_point x sum(w).
        weight = layer.dense_weight()
        sums = weight.reshape(len(weight), -1).sum(axis=1, dtype=np.int64)
        bias: NDArray[np.float64] = offset.astype(np.float64) + sums.astype(np.float64) * zero_point
        return bias

    def _x_zero_point(self, step: SparseStep, fusion: Fusion, values: Mapping[str, NDArray[Any]]) -> int:
        if step.x_zero_point is not None:
            return int(values[step.x_zero_point].reshape(()))
        if fusion.x_quantised is not None:
            return fusion.x_quantised.zero_point
        point = constant_array(fusion.layer.x_zero_point)
        return 0 if point is None else int(point.reshape(()))


def _float_of(fusion: Fusion) -> str:
    """Return the name of the float value that the QuantizeLinear at a fusion's end reads."""
    value = fusion.absorbed[-1].inputs[0]
    return str(fusion.y.name if value is None else value.name)
