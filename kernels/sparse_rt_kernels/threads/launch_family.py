"""Many launches from one: what differs between layers of equal sizes is where their weights lie."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.workspace import address_of

__all__ = ["LaunchFamily", "is_model"]

_WORD = 8


@functools.lru_cache(maxsize=256)
def _word_fields(record: np.dtype[Any]) -> tuple[int, ...] | None:
    """Return which words of a record are its int64 fields; None if one lies across two words."""
    places = [] if record.fields is None else [(place[0], place[1]) for place in record.fields.values()]
    offsets = [int(offset) for kind, offset in places if kind == np.int64]
    if any(offset % _WORD for offset in offsets):
        return None
    return tuple(offset // _WORD for offset in offsets)


def is_model(launch: Launch) -> bool:
    """Return whether others can be made of a launch: its kernel names its constants, each of them another address."""
    constants = launch.constants
    if constants is None or launch.has_other_way:
        return False
    addresses = [address for address in constants if address]
    if len(set(addresses)) != len(addresses):
        return False
    records = [phase.arguments for phase in launch.phases]
    return all(record.shape == (1,) and _word_fields(record.dtype) is not None for record in records)


class LaunchFamily:
    """Launches that do what one of them does, each with constants of its own. Immutable, like a launch.

    Their records are filled at once, column by column, so that a member costs a copy of a few hundred bytes, where
    preparing a launch takes some 50 us of Python.

    Parameters
    ----------
    model
        The launch that they are like; see :func:`is_model`.
    constants
        (members, len(model.constants)) int64, what stands in place of :attr:`Launch.constants`. Addresses are what an
        int64 field of a record is compared with: no size or stride is as large as an address.
    """

    def __init__(self, model: Launch, constants: NDArray[np.int64]) -> None:
        members = len(constants)
        self.model = model
        self.count = model.count
        self._words: NDArray[np.int64] = np.empty((members, model.count, 4), np.int64)
        self._words[:] = model.words
        self._records: list[NDArray[np.int64]] = []
        columns = {address: number for number, address in enumerate(model.constants or ()) if address}
        for number, phase in enumerate(model.phases):
            content = _as_words(phase.arguments)
            records = np.empty((members, len(content)), np.int64)
            records[:] = content
            values = content.tolist()
            for word in _word_fields(phase.arguments.dtype) or ():
                column = columns.get(values[word])
                if column is not None:
                    records[:, word] = constants[:, column]
            self._words[:, number, 1] = _rows(records)
            self._records.append(records)
        #: Resident bytes, the model's included.
        self.nbytes = model.nbytes + self._words.nbytes + sum([records.nbytes for records in self._records])
        #: (members,) the addresses of their phases; see :attr:`Launch.address`.
        self.addresses: NDArray[np.int64] = _rows(self._words)

    def launch(self, member: int) -> Launch:
        """Return one of them as a launch of its own."""
        phases = []
        for phase, records in zip(self.model.phases, self._records, strict=True):
            kind = phase.arguments.dtype
            own = records[member].view(np.uint8)[: kind.itemsize].view(kind)
            phases.append(Phase(phase.function, own, phase.tasks))
        return Launch(phases, self.model.shared_bytes, self.model.scratch_bytes, keep=(self,))


def _as_words(record: NDArray[Any]) -> NDArray[np.int64]:
    """Return the whole words that a record of shape (1,) fills, the last one perhaps in part."""
    if record.dtype.itemsize % _WORD == 0:
        return record.view(np.int64)
    padded = np.zeros(-(-record.dtype.itemsize // _WORD) * _WORD, np.uint8)
    padded[: record.dtype.itemsize] = record.view(np.uint8)
    return padded.view(np.int64)


def _rows(array: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the address of each row."""
    found: NDArray[np.int64] = address_of(array) + array.strides[0] * np.arange(len(array))
    return found
