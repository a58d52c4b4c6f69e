"""An array seen in another shape and order of axes, which moves none of its elements."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sparse_rt.graph.layers.weights import constant_array
from sparse_rt.plan.steps.step import Shape

__all__ = ["View"]


@dataclass(frozen=True)
class _Reshape:
    """ONNX's Reshape: 0 keeps a size, -1 is what is left."""

    target: tuple[int, ...]

    def sizes(self, shape: Shape) -> Shape:
        """Return the target with kept sizes in place, and None for what is not known."""
        if any(size == 0 for size in self.target[len(shape) :]):
            raise ValueError(f"at least {len(self.target)} axes")
        sizes = tuple(shape[axis] if size == 0 else size for axis, size in enumerate(self.target))
        known = [size for size in shape if size is not None]
        if len(known) == len(shape):
            wanted = tuple([-1 if size is None else size for size in sizes])
            count, named = math.prod(known), math.prod([size for size in wanted if size != -1])
            if count and min(wanted, default=0) > 0 and named == count:
                return wanted
            if count and sorted(wanted)[:2] > [-1, 0] and wanted.count(-1) == 1 and count % named == 0:
                return tuple([count // named if size == -1 else size for size in wanted])
            # NumPy knows the rest, and what is wrong. No memory stands behind it: one element, seen in many places.
            return np.broadcast_to(np.int8(0), known).reshape(wanted).shape
        return tuple(None if size == -1 else size for size in sizes)

    def of(self, array: NDArray[Any]) -> NDArray[Any]:
        return array.reshape([size or 0 for size in self.sizes(array.shape)])


@dataclass(frozen=True)
class _Transpose:
    perm: tuple[int, ...]

    def sizes(self, shape: Shape) -> Shape:
        if len(shape) != len(self.perm):
            raise ValueError(f"{len(self.perm)} axes")
        return tuple(shape[axis] for axis in self.perm)

    def of(self, array: NDArray[Any]) -> NDArray[Any]:
        return array.transpose(self.perm)


@dataclass(frozen=True)
class View:
    """Reshapes and transpositions, one after the other."""

    changes: tuple[_Reshape | _Transpose, ...] = ()

    @property
    def rank(self) -> int | None:
        """Number of axes of what is seen; None where the array decides."""
        if not self.changes:
            return None
        last = self.changes[-1]
        return len(last.target if isinstance(last, _Reshape) else last.perm)

    def after(self, node: ir.Node) -> "View | None":
        """Return what is seen of the input of `node`, a Transpose or a Reshape to a constant shape; else None."""
        change: _Reshape | _Transpose
        if node.domain != "":
            return None
        if node.op_type == "Transpose" and "perm" in node.attributes:
            change = _Transpose(tuple(node.attributes["perm"].as_ints()))
        elif node.op_type == "Reshape":
            target = constant_array(node.inputs[1])
            if target is None or (node.attributes.get_int("allowzero", 0) != 0 and not target.all()):
                return None
            change = _Reshape(tuple(int(size) for size in target))
        else:
            return None
        return View((change, *self.changes))

    def then(self, other: "View") -> "View":
        """Return what is seen of what is seen."""
        return View((*self.changes, *other.changes))

    def transposed(self, rank: int) -> "View":
        """Return what is seen with its last two of `rank` axes exchanged."""
        return View((*self.changes, _Transpose((*range(rank - 2), rank - 1, rank - 2))))

    def sizes(self, shape: Shape) -> Shape:
        """Return the shape that is seen of an array of `shape`; sizes may be unknown. Raises ValueError."""
        for change in self.changes:
            shape = change.sizes(shape)
        return shape

    def of(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the array as it is seen: the same memory, if strides can say so. Raises ValueError."""
        changes = self.changes
        while changes:
            if _transposes_matrices(changes[:3], array.shape):
                array, changes = array.swapaxes(-1, -2), changes[3:]
            else:
                array, changes = changes[0].of(array), changes[1:]
        return array


def _transposes_matrices(changes: Sequence[_Reshape | _Transpose], shape: tuple[int, ...]) -> bool:
    """Return whether changes put all axes but the last two together, exchange those, and put the others apart again.

    PyTorch writes the transposition of keys so. Strides can say what it is, but not what lies between.
    """
    kinds = [type(change) for change in changes]
    if kinds != [_Reshape, _Transpose, _Reshape] or len(shape) < 3:
        return False
    *lead, rows, columns = shape
    flat = changes[0].sizes(shape)
    if flat != (math.prod(lead), rows, columns) or changes[1] != _Transpose((0, 2, 1)):
        return False
    return changes[2].sizes(changes[1].sizes(flat)) == (*lead, columns, rows)
