"""Words that are addresses become pointers to copies of what lies there; all others stay what they are."""

from typing import NamedTuple

import numpy as np
import pytest
from sparse_rt_kernels.jit.shared_object import Pointer
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.sequence import Bound, LaunchSequence

from sparse_rt.errors import ConfigError
from sparse_rt.library.frozen import memory
from sparse_rt.library.frozen.memory import Memory, UnknownAddressError

FUNCTION = 0x7F00_0000_1000


@pytest.fixture
def known():
    return Memory({FUNCTION: "task"})


def words(*values):
    return np.array(values, np.int64)


def test_words_become_pointers(known):
    panel = np.arange(100, dtype=np.float32)
    row = words(5, panel.ctypes.data + 40, FUNCTION, -1, 1 << 62, 0)
    known.hold([[panel], row])
    (first, second) = known.pointers_in(row)
    assert (first.at, first.addend) == (8, 40)
    assert known.blocks[first.target].content == panel.tobytes()
    assert second == Pointer(16, "task")


def test_memory_is_followed_and_its_addresses_are_not_stored(known):
    inner = np.arange(3, dtype=np.int8)
    middle = words(7, inner.ctypes.data)
    outer = words(middle.ctypes.data)
    known.hold([(inner, {"a": [middle]})])
    (pointer,) = known.pointers_in(outer)
    block = known.blocks[pointer.target]
    assert block.content == words(7, 0).tobytes()
    assert known.blocks[block.pointers[0].target].content == inner.tobytes()


def test_what_is_equal_is_stored_once(known):
    arrays = [np.full(1000, 3, np.float32) for _ in range(4)]
    known.hold(arrays)
    targets = {pointer.target for pointer in known.pointers_in(words(*(each.ctypes.data for each in arrays)))}
    assert targets == set(known.blocks)
    assert len(targets) == 1


def test_a_view_belongs_to_what_it_is_a_view_of(known):
    whole = np.arange(64, dtype=np.int32)
    known.hold([whole[10:20], whole, whole[::2]])
    pointers = known.pointers_in(words(whole[10:].ctypes.data, whole[30:].ctypes.data))
    assert [pointer.addend for pointer in pointers] == [40, 120]
    assert len(known.blocks) == 1


def test_records_have_addresses_in_their_integers_only(known):
    panel = np.arange(8, dtype=np.float64)
    kind = np.dtype([("number", "i8"), ("low", "f4"), ("high", "f4"), ("place", "i8")])
    record = np.array([(1, -np.inf, np.inf, 0), (2, 0, 1, panel.ctypes.data)], kind)
    record["low"][1], record["high"][1] = np.array([panel.ctypes.data]).view(np.float32)
    known.hold([panel])
    assert [pointer.at for pointer in known.pointers_in(record)] == [kind.itemsize + 16]


def test_an_unknown_address_is_noticed(known):
    panel = np.zeros(1 << 20, np.int8)
    with pytest.raises(UnknownAddressError):
        known.pointers_in(words(panel.ctypes.data))


def test_a_process_whose_addresses_might_be_sizes_is_refused(known, monkeypatch):
    monkeypatch.setattr(memory, "_LOWEST", 1 << 62)
    with pytest.raises(ConfigError, match="position-independent"):
        known.hold([np.zeros(3)])


class Held(NamedTuple):
    """What a kernel might keep."""

    array: np.ndarray


def task(task, arguments, x, other, out, shared, scratch):
    return 0


def test_all_that_a_sequence_keeps_is_found(known, monkeypatch):
    monkeypatch.setattr(Phase, "address", FUNCTION)
    held = Held(np.arange(5, dtype=np.float32))
    record = np.array([(held.array.ctypes.data, 9)], [("place", "i8"), ("count", "i8")])
    sequence = LaunchSequence([Bound(Launch([Phase(task, record, 2)], keep=(held,)), 0, -1, 1)])
    known.hold([sequence])
    (launches,) = known.pointers_in(words(sequence.header))
    content = {name: block.content for name, block in known.blocks.items()}
    assert held.array.tobytes() in content.values()
    assert words(0, 9).tobytes() in content.values()
    assert content[launches.target][8:16] == words(1).tobytes(), "one launch"
