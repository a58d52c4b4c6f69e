"""softmax(query key^T * scale + mask) value, on a kernel of ours."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sparse_rt_kernels.between.attention import Attention, Place
from sparse_rt_kernels.threads.launch import Launch
from sparse_rt_kernels.threads.pool import ThreadPool
from sparse_rt_kernels.threads.workspace import address_of

from sparse_rt.errors import FeedError, message
from sparse_rt.plan.steps.base import StepBase, no_memory
from sparse_rt.plan.steps.calls import Calls
from sparse_rt.plan.steps.step import Environment, Shape, StepCall
from sparse_rt.plan.steps.view import View

__all__ = ["AttentionStep"]

_ROLES = ("query", "key", "value", "mask")


@dataclass(frozen=True, eq=False, slots=True)
class _Call:
    """What to do for inputs of given shapes.

    `copied` has a shape for each input that must be copied as it is seen, since no strides say so; None for others.
    """

    y_shape: tuple[int, ...]
    launch: Launch | None
    copied: tuple[tuple[int, ...] | None, ...]

    @property
    def is_native(self) -> bool:
        """Whether nothing has to be copied."""
        return all(shape is None for shape in self.copied)


@dataclass(frozen=True, eq=False, slots=True)
class AttentionStep(StepBase):
    """Run one attention through a kernel, from what the projections of query, key and value write.

    Its inputs are query, key, value and perhaps the mask that is added to the scores; its name is the Softmax node's.

    Attributes
    ----------
    views
        How query, key and value become (batch, heads, tokens, size), or (batch, tokens, size).
    perm
        The order of axes in which it is written; the last one stays last.
    merged
        Its shape, once it is in that order.
    scale
        What scores are multiplied by.
    prepare
        ``prepare(attention, biases, threads)`` returns the launch; biases are (batch, heads, size), or None.
    biases
        What is added to each row of the arrays of query, key and value, one number a column; None for none.
    """

    views: tuple[View, View, View]
    perm: tuple[int, ...]
    scale: float
    prepare: Callable[[Attention, tuple[NDArray[np.float32] | None, ...], int], Launch]
    merged: View = View()  # noqa: RUF009, immutable
    biases: tuple[NDArray[np.float32] | None, ...] = (None, None, None)
    _calls: Calls[_Call] = field(default_factory=Calls, init=False, repr=False)

    @property
    def alike(self) -> Hashable | None:
        """What tells its calls from those of other steps; None where biases are part of them."""
        if any(bias is not None for bias in self.biases):
            return None
        return (
            AttentionStep,
            self.x_dtypes,
            self.views,
            self.y_dtype,
            self.perm,
            self.scale,
            self.prepare,
            self.merged,
        )

    def is_bindable(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Return whether shapes are all that a call depends on."""
        if any(name not in shapes for name in self.inputs):
            return True
        try:
            return self._call(tuple(shapes[name] for name in self.inputs), 1).is_native
        except FeedError:  # a run will say so
            return True

    def bind(self, shapes: Sequence[tuple[int, ...]], threads: int) -> StepCall | None:
        """Return the call for inputs of `shapes`; None if some have to be copied. Raises FeedError."""
        call = self._prepared(tuple(shapes), threads)
        return StepCall(call.y_shape, call.launch) if call.is_native else None

    def run(self, values: Environment, pool: ThreadPool, run_options: Any = None) -> None:
        """Compute y.

        Raises
        ------
        FeedError
            A value has the wrong dtype or shape.
        """
        arrays = self.checked(values)
        call = self._call(tuple(array.shape for array in arrays), pool.threads)
        y = self._empty(call.y_shape, self.y_dtype)
        for number, shape in enumerate(call.copied):
            if shape is not None:
                arrays[number] = _copied(self._seen(number, arrays[number]), shape)
        if call.launch is not None:
            call.launch.run(arrays[0], y, pool, *arrays[1:])
        values[self.y] = y

    def output_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        """Return y's shape for a query whose sizes may be partly unknown (None), or None where nothing is known."""
        shape = shapes[0]
        if shape is None:
            return None
        try:
            sizes = (*self.views[0].sizes(shape)[:-1], self._value_size())
            return self._y_sizes(sizes) if len(sizes) == len(self.perm) else None
        except ValueError as error:
            raise self._misfit(str(error), (shape,)) from error

    def _y_sizes(self, context: Shape) -> Shape:
        """Return y's shape for a context of (batch, heads, tokens, size)."""
        return self.merged.sizes(tuple(context[axis] for axis in self.perm))

    def _value_size(self) -> int | None:
        """Return the columns of value where its view alone says so."""
        rank = self.views[2].rank
        try:
            return None if rank is None else self.views[2].sizes((None,) * 3)[-1]
        except ValueError:
            return None

    def _misfit(self, expected: str, shapes: Sequence[Shape]) -> FeedError:
        got = ", ".join(f"{role} {shape}" for role, shape in zip(_ROLES, shapes, strict=False))
        return FeedError(message(self.where, expected, got))

    def _call(self, shapes: tuple[tuple[int, ...], ...], threads: int) -> _Call:
        key = (threads, *shapes)
        return self._calls.get(key) or self._calls.keep(key, self._prepared(shapes, threads))

    def _prepared(self, shapes: tuple[tuple[int, ...], ...], threads: int) -> _Call:
        try:
            return self._prepare(shapes, threads)
        except ValueError as error:
            raise self._misfit(str(error), shapes) from error

    def _seen(self, number: int, array: NDArray[Any]) -> NDArray[Any]:
        return self.views[number].of(array) if number < len(self.views) else array

    def _prepare(self, shapes: tuple[tuple[int, ...], ...], threads: int) -> _Call:
        """Ask NumPy, on memory that nobody touches, for the shapes and strides in which the operands are seen."""
        bases = [self._empty(shape, dtype) for shape, dtype in zip(shapes, self.x_dtypes, strict=True)]
        seen = [self._seen(number, base) for number, base in enumerate(bases)]
        if any(view.ndim != len(self.perm) for view in seen[:3]):
            raise ValueError(f"query, key and value of {len(self.perm)} axes")
        goals = [view.shape for view in seen[:3]]
        goals += [(*mask.shape[:-1], goals[1][-2]) for mask in seen[3:]]
        copied = tuple(
            None if _is_readable(view, base) and view.shape[-1] == goal[-1] else goal
            for view, base, goal in zip(seen, bases, goals, strict=True)
        )
        for number, shape in enumerate(copied):
            if shape is not None:
                seen[number] = bases[number] = _copied(seen[number], shape)
        query, key, value = seen[:3]
        lead = np.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
        if query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
            raise ValueError("a key of the query's size, and a value for each key")
        context = (*lead, query.shape[-2], value.shape[-1])
        y_shape = tuple(size for size in self._y_sizes(context) if size is not None)
        y = self._empty(tuple(context[axis] for axis in self.perm), self.y_dtype)
        if not math.prod(context):
            return _Call(y_shape, None, copied)
        if not math.prod(key.shape):
            raise ValueError("at least one key, of at least one element")
        goals = [(*lead, *view.shape[-2:]) for view in (query, key, value)]
        if len(seen) > 3:
            goals.append((*lead, query.shape[-2], key.shape[-2]))
        places = [
            _place(view if view.shape == goal else np.broadcast_to(view, goal), base)
            for view, goal, base in zip(seen, goals, bases, strict=True)
        ]
        batch, heads = (1, *lead)[-2:]
        attention = Attention(
            batch=batch,
            heads=heads,
            queries=query.shape[-2],
            keys=key.shape[-2],
            size=query.shape[-1],
            value_size=value.shape[-1],
            scale=self.scale,
            query=places[0],
            key=places[1],
            value=places[2],
            out=_place(y.transpose(np.argsort(self.perm)), y),
            mask=places[3] if len(places) > 3 else None,
        )
        biases = tuple(
            None
            if bias is None
            else np.broadcast_to(
                self._seen(number, np.broadcast_to(bias, shapes[number]))[..., 0, :], (*lead, seen[number].shape[-1])
            ).reshape(batch, heads, -1)
            for number, bias in enumerate(self.biases)
        )
        return _Call(y_shape, self.prepare(attention, biases, threads), copied)

    def _empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        try:
            return np.empty(shape, dtype)
        except (MemoryError, ValueError) as error:  # ValueError: larger than any array can be
            raise no_memory(self.where, "arrays", shape) from error


def _copied(view: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    return np.ascontiguousarray(np.broadcast_to(view, shape))


def _is_readable(view: NDArray[Any], base: NDArray[Any]) -> bool:
    """Return whether `view` lies in the memory of `base`, and its rows without gaps."""
    return np.may_share_memory(view, base) and (view.shape[-1:] == (1,) or view.strides[-1:] == (view.itemsize,))


def _place(view: NDArray[Any], base: NDArray[Any]) -> Place:
    """Return where the rows of (batch, heads, rows, columns) or (batch, rows, columns) lie in memory of `base`."""
    batch, head, row = (0, *view.strides[:-1])[-3:]
    return Place(address_of(view) - address_of(base), batch, head, row)
