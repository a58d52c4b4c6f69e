"""Let a layer add the residual that an Add of two activations would add right after it: y = clip(layer(x) + residual).

The sum then never makes the way to memory and back. Works on the steps in their order: the layer moves to where the
Add stood, where all that the Add reads is there.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue

from sparse_rt.plan.steps.add_step import AddStep
from sparse_rt.plan.steps.sparse_step import SparseStep
from sparse_rt.plan.steps.step import Part

__all__ = ["absorb_additions"]


P = TypeVar("P", bound=Part)


def absorb_additions(
    steps: Sequence[P], shapes: Mapping[str, tuple[int, ...]], outputs: Sequence[str]
) -> tuple[P | SparseStep, ...]:
    """Return `steps` in which layers add residuals themselves, wherever their kernel can.

    A layer takes an Add over if nobody else reads what it writes. Of two such layers the later one does: by then the
    other's result is there. The residual then comes from before the layer, so it cannot depend on it.

    Parameters
    ----------
    steps
        In order of execution.
    shapes
        Of values, as far as they are the same in every run. A residual of another shape than y stays with the Add;
        where nothing is known, the step itself finds out; see :class:`SparseStep`.
    outputs
        Values that the caller may ask for: an inner value that is one is written by its layer.
    """
    kept: list[P | SparseStep | None] = list(steps)
    readers = Counter(name for step in steps for name in step.inputs)
    readers.update(outputs)
    writers = {name: number for number, step in enumerate(steps) for name in step.outputs}
    for number, step in enumerate(steps):
        if not isinstance(step, AddStep):
            continue
        candidates = sorted((writers[name], name) for name in step.inputs if name in writers and readers[name] == 1)
        for position, name in reversed(candidates):
            layer = kept[position]
            fused = _fused(layer, step, name, shapes) if isinstance(layer, SparseStep) else None
            if fused is not None:
                kept[position], kept[number] = None, fused
                break
    return tuple(step for step in kept if step is not None)


def _fused(layer: SparseStep, addition: AddStep, name: str, shapes: Mapping[str, tuple[int, ...]]) -> SparseStep | None:
    """Return the layer that computes `addition`, too, of which it writes the operand `name`; None if it cannot."""
    residual = next(other for other in addition.inputs if other != name)
    if residual in shapes and name in shapes and shapes[residual] != shapes[name]:
        return None
    if not layer.kernel.adds_residual or layer.residual is not None or layer.requantisation is not None:
        return None
    epilogue = _epilogue(layer.epilogue, addition)
    if epilogue is None:
        return None
    return replace(layer, y=addition.y, residual=residual, epilogue=epilogue, apart=(layer, addition))


def _epilogue(epilogue: FloatEpilogue | IntegerEpilogue, addition: AddStep) -> FloatEpilogue | None:
    """Return what a layer ends with when it computes `addition`, too: it clips after the sum, and only there."""
    if not isinstance(epilogue, FloatEpilogue) or addition.quantised is not None:
        return None
    if (epilogue.low, epilogue.high) != (-np.inf, np.inf):
        return None
    return replace(epilogue, low=addition.low, high=addition.high)
