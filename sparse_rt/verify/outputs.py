"""The outputs, end to end: which rule each is held to, and whether it keeps it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sparse_rt.verify.bounds import NOISE_FACTOR, noise_tolerance
from sparse_rt.verify.compare import Comparison, bounded, exact, rms_distance, rms_within, within
from sparse_rt.verify.leaves import leaves
from sparse_rt.verify.report import OutputCheck

__all__ = ["Rules", "check_outputs"]

_LOGIT_NAMES = ("logit", "prob", "score", "class")
#: Steps of a float type of less than 32 bits by which two engines may round otherwise.
_STEPS = 4.0
_Form = tuple[str, str, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Rules:
    """What decides how outputs are compared.

    Attributes
    ----------
    float_tolerance
        Of floats that no quantised activation leads to, relative to the largest of an output.
    is_quantised
        Whether the model quantises activations.
    exact
        Names of the outputs that have one right value.
    may_lose_nan
        Whether NaN in the reference may be 0 x inf, which a sparse kernel skips.
    plain
        Returns the outputs of another execution of the reference, without graph optimisations.
    again
        Returns those of the same execution once more: random numbers are others then.
    nudged
        Returns those for feeds that are one step of their type away.
    """

    float_tolerance: float
    is_quantised: bool
    exact: frozenset[str]
    may_lose_nan: bool
    plain: Callable[[], Mapping[str, Any]]
    again: Callable[[], Mapping[str, Any]] = dict
    nudged: Callable[[], Mapping[str, Any]] = dict


def check_outputs(found: Mapping[str, Any], expected: Mapping[str, Any], rules: Rules) -> tuple[OutputCheck, ...]:
    """Return a check for each output of either model; none where they share none.

    Parameters
    ----------
    found, expected
        Outputs of the model and of its reference by name.
    rules
        How to compare.
    """
    if not found.keys() & expected.keys():
        return ()
    checks = []
    for name, y in found.items():
        if name in expected:
            checks.append(_check(name, y, expected[name], rules))
        else:
            checks.append(_not_compared(name, f"the reference has no output '{name}'"))
    missing = [name for name in expected if name not in found]
    checks += [_not_compared(name, f"only the reference has an output '{name}'") for name in missing]
    return tuple(checks)


def _not_compared(name: str, note: str) -> OutputCheck:
    return OutputCheck(name, "exact", 0.0, None, note=note)


@dataclass(frozen=True, eq=False)
class _Value:
    """What an output holds: the form of each array, the arrays that are no floats, and the floats."""

    forms: tuple[_Form, ...]
    others: tuple[NDArray[Any], ...]
    floats: NDArray[Any] | None

    @staticmethod
    def of(value: Any) -> "_Value | None":
        """Take an output apart; None if it is of a type that cannot be compared."""
        found = leaves(value)
        if found is None:
            return None
        floats = [array for _, array in found if array.dtype.kind == "f"]
        others = tuple(array for _, array in found if array.dtype.kind != "f")
        together = floats[0] if len(floats) == 1 else np.concatenate([array.ravel() for array in floats or [_NOTHING]])
        return _Value(tuple(_form(*leaf) for leaf in found), others, together if floats else None)

    def numbers(self) -> NDArray[np.float64]:
        """Return all numbers in a row."""
        arrays = [array for array in self.others if array.dtype.kind in "iub"]
        arrays += [] if self.floats is None else [self.floats]
        return np.concatenate([array.ravel().astype(np.float64) for array in arrays or [_NOTHING]])


_NOTHING = np.zeros(0)


def _form(place: str, array: NDArray[Any]) -> _Form:
    # Texts are of as many characters as the longest one.
    return place, array.dtype.kind if array.dtype.kind in "OU" else str(array.dtype), array.shape


def _check(name: str, y: Any, reference: Any, rules: Rules) -> OutputCheck:
    ours, theirs = _Value.of(y), _Value.of(reference)
    if ours is None or theirs is None:
        return _not_compared(name, f"output '{name}' is of a type that cannot be compared")
    if ours.forms != theirs.forms:
        return OutputCheck(name, "exact", 0.0, _mismatch(ours.forms, theirs.forms))
    counted = _all_exact(ours.others, theirs.others)
    check = OutputCheck(name, "exact", 0.0, counted)
    if counted.equal and ours.floats is not None and theirs.floats is not None:
        check = _check_floats(name, ours.floats, theirs.floats, rules)
    if check.comparison is None or check.comparison.equal:
        return check
    # What integers lead to is sure, however near it lies to a tie.
    others = (rules.plain, rules.again) if name in rules.exact else (rules.plain, rules.again, rules.nudged)
    for execution in others:
        other = _Value.of(execution().get(name, ()))
        if other is not None and other.forms == theirs.forms:
            found = _against_noise(check, ours, theirs, other)
            if found.is_within_noise:
                return found
    return check


def _mismatch(ours: Sequence[_Form], theirs: Sequence[_Form]) -> Comparison:
    note = f"{len(ours)} tensors against {len(theirs)}"
    for own, other in zip(ours, theirs, strict=False):
        if own != other:
            (place, dtype, shape), (other_place, other_dtype, other_shape) = own, other
            at = f"{place}: " if place == other_place != "" else ""
            note = f"{at}{dtype} {list(shape)} against {other_dtype} {list(other_shape)}"
            if place != other_place:
                note = f"{place or 'a tensor'} against {other_place or 'a tensor'}"
            break
    elements = sum(int(np.prod(shape)) for _, _, shape in ours)
    return Comparison(False, elements, elements, np.inf, np.inf, note)


def _all_exact(ours: Sequence[NDArray[Any]], theirs: Sequence[NDArray[Any]]) -> Comparison:
    found = [exact(a, b) for a, b in zip(ours, theirs, strict=True)]
    return Comparison(
        all(each.equal for each in found),
        sum(each.elements for each in found),
        sum(each.differing for each in found),
        max((each.max_error for each in found), default=0.0),
        max((each.worst for each in found), default=0.0),
    )


def _check_floats(name: str, y: NDArray[Any], reference: NDArray[Any], rules: Rules) -> OutputCheck:
    rule: Literal["exact", "rms", "max"]
    if name in rules.exact:
        rule, tolerance = "exact", 0.0
        comparison = bounded(y, reference, np.zeros(()), may_lose_nan=rules.may_lose_nan)
    elif rules.is_quantised:
        plain = _Value.of(rules.plain().get(name, ()))
        noise = 0.0 if plain is None or plain.floats is None else rms_distance(plain.floats, reference)
        rule, tolerance = "rms", noise_tolerance(noise)
        comparison = rms_within(y, reference, tolerance, may_lose_nan=rules.may_lose_nan)
    else:
        rule, tolerance = "max", rules.float_tolerance
        if y.dtype.itemsize < 4:
            tolerance = max(tolerance, _STEPS * float(np.finfo(y.dtype).eps))
        comparison = within(y, reference, tolerance, may_lose_nan=rules.may_lose_nan)
    if reference.size and np.isnan(reference).all():
        return OutputCheck(name, rule, tolerance, None, note=f"output '{name}' is all NaN in the reference")
    cosine, top1 = _cosine(y, reference), _top1_agreement(name, y, reference)
    return OutputCheck(name, rule, tolerance, comparison, cosine, top1, comparison.note)


def _against_noise(check: OutputCheck, ours: _Value, theirs: _Value, again: _Value) -> OutputCheck:
    """Return a check that failed as one that says nothing, where the reference is as far from itself as we are from it.

    Its two executions are equally right, so an answer as near to one of them may be right as well, or wrong.
    """
    y, reference, other = ours.numbers(), theirs.numbers(), again.numbers()
    texts = [array.dtype.kind in "OU" for array in ours.others]
    if any(texts) and not all(map(np.array_equal, ours.others, theirs.others)):
        return check
    if not (np.isfinite(y) | ~np.isfinite(reference) | ~np.isfinite(other)).all():
        return check
    distance, noise = rms_distance(y, reference), rms_distance(other, reference)
    is_near = 0 < distance <= NOISE_FACTOR * noise and _largest(y, reference) <= NOISE_FACTOR * _largest(
        other, reference
    )
    if not is_near:
        return check
    note = (
        f"output '{check.name}' differs by {distance:.2g} (rms, relative), "
        f"but two executions of the reference itself differ by {noise:.2g}"
    )
    return dataclasses.replace(check, is_within_noise=True, note=note)


def _largest(y: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    finite = np.isfinite(y) & np.isfinite(reference)
    return float(np.abs(y[finite] - reference[finite]).max(initial=0.0))


def _cosine(y: NDArray[Any], reference: NDArray[Any]) -> float | None:
    if y.shape != reference.shape or not (np.isfinite(y).all() and np.isfinite(reference).all()):
        return None
    a, b = y.ravel().astype(np.float64), reference.ravel().astype(np.float64)
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return min(1.0, float(a @ b) / norm) if norm else None


def _top1_agreement(name: str, y: NDArray[Any], reference: NDArray[Any]) -> float | None:
    """Return the share of equal arg max over the last axis, for a matrix or a name that says logits."""
    named = any(word in name.lower() for word in _LOGIT_NAMES)
    if y.shape != reference.shape or y.size == 0 or y.shape[-1:] < (2,) or not (named or y.ndim == 2):
        return None
    return float(np.mean(y.argmax(axis=-1) == reference.argmax(axis=-1)))
