"""Many launches from one: what differs between layers of equal sizes is where their weights lie."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.launch import Launch, Phase

__all__ = ["LaunchFamily", "is_model"]

_WORD = 8


@functools.lru_cache(maxsize=256)
def _word_fields(record: np.dtype[Any]) -> tuple[int, ...]:
    """Return where in a record its int64 fields lie."""
    places = [] if record.fields is None else [(place[0], place[1]) for place in record.fields.values()]
    return tuple(int(offset) for kind, offset in places if kind == np.int64)


def is_model(launch: Launch) -> bool:
    """Return whether others can be made of a launch: its kernel names its constants, each of them another address."""
    constants = launch.constants
    if constants is None or launch.has_other_way:
        return False
    addresses = [address for address in constants if address]
    return len(set(addresses)) == len(addresses) and all(phase.arguments.shape == (1,) for phase in launch.phases)


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
        self._records: list[NDArray[np.uint8]] = []
        columns = {address: number for number, address in enumerate(model.constants or ()) if address}
        for number, phase in enumerate(model.phases):
            kind = phase.arguments.dtype
            content = phase.arguments.view(np.uint8)
            records = np.zeros((members, -(-kind.itemsize // _WORD) * _WORD), np.uint8)
            records[:, : kind.itemsize] = content
            for offset in _word_fields(kind):
                column = columns.get(int(content[offset : offset + _WORD].view(np.int64)[0]))
                if column is not None:
                    records[:, offset : offset + _WORD] = _as_bytes(constants[:, column])
            self._words[:, number, 1] = records.ctypes.data + records.strides[0] * np.arange(members)
            self._records.append(records)
        #: (members,) the addresses of their phases; see :attr:`Launch.address`.
        self.addresses: NDArray[np.int64] = self._words.ctypes.data + self._words.strides[0] * np.arange(members)

    @property
    def nbytes(self) -> int:
        """Resident bytes, the model's included."""
        return self.model.nbytes + self._words.nbytes + sum(records.nbytes for records in self._records)

    def launch(self, member: int) -> Launch:
        """Return one of them as a launch of its own."""
        phases = [
            Phase(phase.function, records[member, : phase.arguments.itemsize].view(phase.arguments.dtype), phase.tasks)
            for phase, records in zip(self.model.phases, self._records, strict=True)
        ]
        return Launch(phases, self.model.shared_bytes, self.model.scratch_bytes, keep=(self,))


def _as_bytes(column: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(column).view(np.uint8).reshape(-1, _WORD)
