"""A pattern applied to a whole model, in one shot."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from sparse_rt import arguments, formats, sparsity
from sparse_rt.boundary import public
from sparse_rt.errors import ConfigError, ModelError, message
from sparse_rt.graph import mapped, model_io
from sparse_rt.graph.layers.find import find_layers
from sparse_rt.graph.layers.layer import Layer
from sparse_rt.graph.layers.sharing import Candidate, candidate_of, stay_dense
from sparse_rt.graph.local_functions import replace_functions
from sparse_rt.graph.neighbours.absorb import absorb
from sparse_rt.graph.neighbours.restore import restore
from sparse_rt.prune.scores import METHODS, Score
from sparse_rt.sparsity import Pattern

__all__ = ["LayerPruning", "PruneResult", "prune", "prune_model"]


@dataclass(frozen=True)
class LayerPruning:
    """What happened to one layer."""

    name: str
    op_type: str
    """The dense operator."""
    shape: tuple[int, ...]
    """Canonical, output channel first; empty when the weight is not constant."""
    density_before: float | None
    """Nonzeros / all; None when the weight is not constant."""
    density_after: float | None
    magnitude_kept: float | None
    """Sum of |w| after / before; 1 where nothing was dropped."""
    reason: str | None
    """Why the layer was left as it is; None where it holds the pattern now."""


@dataclass(frozen=True)
class PruneResult:
    """The pruned model, and a line for each layer."""

    model: ir.Model
    layers: tuple[LayerPruning, ...]


@public
def prune(model: model_io.ModelSource, pattern: str = "2:4") -> onnx.ModelProto:
    """Return the model with every eligible weight pruned to `pattern` by magnitude, in one shot.

    Parameters
    ----------
    model
        A path, bytes or a ModelProto, which is not changed.
    pattern
        One that can be stored: ``"2:4"``.

    Raises
    ------
    ModelError
        The model cannot be read, or the result is larger than a ModelProto can be.
    ConfigError
        `pattern` is another one.
    PatternError
        `pattern` is none.
    """
    arguments.model("model", model)
    return model_io.to_proto(prune_model(model_io.read(model, custom_operators=True), pattern).model)


@public
def prune_model(model: ir.Model, pattern: str = "2:4") -> PruneResult:
    """Keep the largest |w| that a pattern allows; of 2:4, two of every 4 input channels.

    Every layer is pruned that only the values of its weight keep from being compressed, float and integer weights
    alike; biases and scales stay. The source of the rule is the target's own pruning tool: pad the channels with
    zeros to a multiple of 4, drop the two smallest of each 4.

    Parameters
    ----------
    model
        Not changed; the result shares the tensors that stay as they are.
    pattern
        One that can be stored: ``"2:4"``.

    Raises
    ------
    ConfigError
        `pattern` is another one.
    PatternError
        `pattern` is none.
    """
    if not isinstance(model, ir.Model):
        raise ModelError(message("model", "an onnx_ir.Model", type(model).__name__))
    wanted = sparsity.parse(pattern)
    format = formats.format_of(wanted)
    if format is None:
        titles = " or ".join(f"'{found.title}'" for found in formats.FORMATS.values())
        raise ConfigError(message("pattern", titles, f"'{wanted.name}'", f"Write {titles}."))
    result = model.clone()
    restore(result)
    layers = find_layers(result)
    before = [layer.density() for layer in layers]
    # One that holds the pattern already loses nothing.
    dense = [layer for layer in layers if layer.stored is None and layer.eligible]
    reasons = {layer: formats.reason_for(format, layer.shape, layer.dtype) for layer in dense}
    candidates = [candidate_of(layer) for layer, reason in reasons.items() if reason is None]
    fixed = stay_dense(candidates)
    reasons |= {candidate.layer: reason for candidate, reason in fixed.items()}
    kept: dict[Layer, float] = {}
    done: dict[ir.Value, float] = {}  # all that share a weight read it in the same way
    for candidate in candidates:
        if candidate in fixed:
            continue
        root = candidate.weight.root
        if root not in done:
            done[root] = _prune(candidate, wanted, METHODS["magnitude"])
        kept[candidate.layer] = done[root]
    after = find_layers(result) if kept else layers
    if any(layer.stored is not None for layer in layers):
        absorb(result)
        replace_functions(result)
    return PruneResult(
        result,
        tuple(
            LayerPruning(
                name=old.name,
                op_type=old.op_type,
                shape=old.shape,
                density_before=density,
                density_after=new.density(),
                magnitude_kept=kept.get(old, 1.0) if old.shape else None,
                reason=reasons.get(old) or new.reason,
            )
            for old, density, new in zip(layers, before, after, strict=True)
        ),
    )


def _prune(candidate: Candidate, pattern: Pattern, score: Score) -> float:
    """Replace the layer's constant by its pruned twin; return the share of magnitude that is left."""
    dense = candidate.layer.dense_weight()
    pruned = np.empty_like(dense)  # of the same strides
    total = kept = 0.0
    for part in pattern.pieces(dense):
        piece = dense[part]
        pruned[part] = np.where(pattern.mask(score(piece)), piece, dense.dtype.type(0))
        total += _magnitude(piece)
        kept += _magnitude(pruned[part])
        mapped.release(piece)
    operand = pruned.swapaxes(0, 1) if candidate.form.input_first else pruned
    candidate.weight.replace(operand)
    return kept / total if total else 1.0


def _magnitude(weight: np.ndarray[Any, Any]) -> float:
    # float32 holds |-128| as well, and float16 sums would overflow.
    return float(np.abs(weight, dtype=np.float32).sum(dtype=np.float64))
