"""Calibration samples, as onnxruntime's quantiser reads them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt.errors import FeedError, message
from sparse_rt.feeds import Input

__all__ = ["Calibration"]


class Calibration:
    """Feeds for one run after another, cut out of stacked arrays; onnxruntime's ``CalibrationDataReader``.

    An array with as many axes as its input holds samples along its first axis, and a run takes `batch` of them. An
    array with one axis more holds whole inputs, one a run: for inputs without a batch axis. A scalar for a scalar
    input is the same in every run.

    Parameters
    ----------
    inputs
        Of the model, as a session's ``get_inputs()`` describes them.
    arrays
        By the inputs' names; others are ignored.
    batch
        Samples a run, where the model does not fix it and every input has a batch axis.

    Attributes
    ----------
    samples : int
        How many samples of each input all runs together take.

    Raises
    ------
    FeedError
        An input is missing, an array's axes fit neither way, arrays hold different numbers of samples or too few.
    """

    def __init__(self, inputs: Sequence[Input], arrays: Mapping[str, NDArray[Any]], batch: int) -> None:
        missing = [item.name for item in inputs if item.name not in arrays]
        if missing:
            raise FeedError(message("calibration data", f"arrays for the inputs {missing}", f"only {sorted(arrays)}"))
        self._arrays = {item.name: arrays[item.name] for item in inputs}
        self._stacked = {item.name for item in inputs if _is_stacked(item, arrays[item.name])}
        counts = {name: len(array) for name, array in self._arrays.items() if array.ndim}
        if len(set(counts.values())) > 1:
            raise FeedError(message("calibration data", "equally many samples of each input", str(counts)))
        self.samples = next(iter(counts.values()), 1)
        batched = [item for item in inputs if item.name in counts and item.name not in self._stacked]
        fixed = (
            {item.shape[0] for item in batched if item.shape and isinstance(item.shape[0], int)}
            if not self._stacked
            else {1}
        )
        self._batch = int(min(fixed)) if fixed else min(batch, self.samples)
        if self._batch < 1 or self.samples < self._batch:
            raise FeedError(message("calibration data", f"at least {max(self._batch, 1)} samples", str(self.samples)))
        if fixed:
            self.samples -= self.samples % self._batch  # a fixed batch takes no shorter last one
        self._runs = self._iterate()

    def first(self) -> dict[str, NDArray[Any]]:
        """Return the feeds of the first run."""
        return next(self._iterate())

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """Return the feeds of the next run, None after the last."""
        return next(self._runs, None)

    def _iterate(self) -> Iterator[dict[str, NDArray[Any]]]:
        for start in range(0, self.samples, self._batch):
            yield {name: self._part(name, start) for name in self._arrays}

    def _part(self, name: str, start: int) -> NDArray[Any]:
        array = self._arrays[name]
        if not array.ndim:
            return array
        if name in self._stacked:
            return np.asarray(array[start])
        return array[start : min(start + self._batch, self.samples)]


def _is_stacked(item: Input, array: NDArray[Any]) -> bool:
    """Return whether an array holds whole inputs along its first axis.

    Raises
    ------
    FeedError
        It has neither as many axes as the input nor one more.
    """
    rank = len(item.shape)
    # onnxruntime describes an unknown rank as it does a scalar.
    if array.ndim == rank or (rank == 0 and array.ndim > 1):
        return False
    if array.ndim == rank + 1:
        return True
    expected = f"{rank} axes, the first for samples, or {rank + 1}, the first for whole inputs"
    got = f"an array of shape {list(array.shape)} for an input of shape {list(item.shape)}"
    raise FeedError(message(f"calibration data for '{item.name}'", expected, got))
