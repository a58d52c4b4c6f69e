"""Decisions and measurements as the documents that are kept on disk."""

from collections.abc import Mapping, Sequence
from typing import Any

from sparse_rt.plan.decisions import Decisions, LayerDecision
from sparse_rt.plan.report import Trial

__all__ = ["decisions", "of_decisions", "of_trials", "trials"]

_TRIED = "microseconds"
#: Microseconds of no run; a day.
_LONGEST = 86400e6
_LONGEST = 1e12


def of_trials(tried: Sequence[Trial]) -> dict[str, Any]:
    """Return what :func:`trials` reads."""
    return {_TRIED: {trial.candidate: trial.microseconds for trial in tried}}


def trials(document: Mapping[str, Any] | None) -> tuple[Trial, ...]:
    """Return the trials of a document; none if it holds anything else."""
    found = None if document is None else document.get(_TRIED)
    if not isinstance(found, dict) or not all(_is_time(time) for time in found.values()):
        return ()
    return tuple(Trial(str(name), float(time)) for name, time in found.items())


def of_decisions(decided: Decisions) -> dict[str, Any]:
    """Return what :func:`decisions` reads."""
    layers = {
        name: {"kernel": layer.kernel, "reason": layer.reason, **of_trials(layer.tried)}
        for name, layer in decided.layers.items()
    }
    return {"whole": decided.whole, "hosted": decided.hosted, **of_trials(decided.tried), "layers": layers}


def decisions(document: Mapping[str, Any] | None) -> Decisions | None:
    """Return the decisions of a document; None if it holds none, or anything that is none."""
    if document is None:
        return None
    whole, hosted, layers = document.get("whole"), document.get("hosted"), document.get("layers")
    if not isinstance(whole, str | None) or not isinstance(hosted, str | None) or not isinstance(layers, dict):
        return None
    decided = {name: _layer(layer) for name, layer in layers.items()}
    complete = {name: layer for name, layer in decided.items() if layer is not None}
    return Decisions(complete, whole, trials(document), hosted) if len(complete) == len(decided) else None


def _layer(document: Any) -> LayerDecision | None:
    if not isinstance(document, dict):
        return None
    kernel, reason = document.get("kernel"), document.get("reason")
    if not isinstance(kernel, str | None) or not isinstance(reason, str):
        return None
    return LayerDecision(kernel, reason, trials(document))


def _is_time(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    # Comparisons only: an integer may be larger than any float.
    return 0 < value <= _LONGEST
