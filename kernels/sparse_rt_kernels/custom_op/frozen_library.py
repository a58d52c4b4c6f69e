"""A library that holds all that its kernels need; see :mod:`.frozen`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.cpu.settings import settings
from sparse_rt_kernels.custom_op import frozen, guard
from sparse_rt_kernels.custom_op.contents import ENTRY, FUNCTIONS, LIBRARY, Domain, blocks_of
from sparse_rt_kernels.custom_op.identity import checksum
from sparse_rt_kernels.custom_op.words import attribute, call, checked, library
from sparse_rt_kernels.custom_op.words import frozen as words
from sparse_rt_kernels.jit.compilation import compiled_image
from sparse_rt_kernels.jit.object_file import Image
from sparse_rt_kernels.jit.shared_object import Block, Pointer, Stub, shared_object
from sparse_rt_kernels.threads.workspace import address_of

__all__ = ["Attribute", "Node", "PreparedCall", "frozen_library"]

_WORD: Final = 8
_GUARD: Final = "guard"
_REGISTER: Final = "register_here"
_CREATE: Final = "create_node"
_NEEDED: Final = "needed"
_CHECK: Final = "check_here"
_CHECKED: Final = "checked"
_LESSER_CPU: Final = (
    "sparse_rt library: expected a CPU with all instructions of the one that it was written on, got one that lacks"
    " some. Write the library anew on this CPU: sparse-rt library MODEL -o LIB.so."
)
_DAMAGED: Final = (
    "sparse_rt library: expected a whole file, got one whose data are not what they were."
    " Write it anew: sparse-rt library MODEL -o LIB.so."
)
_NO_NODE: Final = (
    "sparse_rt library: expected a layer of the model that the library was written for, got another weight or other"
    " attributes. Write a library for this model: sparse-rt library MODEL -o LIB.so."
)
#: Functions of a kernel, by their places in the library's block.
_MAKERS: Final = {
    library.CREATE: _CREATE,
    library.PREPARE: "prepare_node",
    library.RUN: "run_node",
    library.RELEASE: "release_node",
}
_FUNCTIONS: Final[Mapping[str, tuple[Callable[..., int], int]]] = {
    "check": (frozen.check, 3),
    "create_any_node": (frozen.create, 5),
    "prepare_node": (frozen.prepare, 5),
    "run_node": (frozen.run, 3),
    "release_node": (frozen.release, 1),
}


class Attribute(NamedTuple):
    """An attribute that tells nodes apart; `kind` is one of :mod:`.words.attribute`."""

    name: str
    kind: int


class PreparedCall(NamedTuple):
    """A call: the words of its block, and which of them are addresses of blocks."""

    words: bytes
    pointers: tuple[Pointer, ...]


class Node(NamedTuple):
    """A node whose kernel a library holds.

    Attributes
    ----------
    name
        For errors.
    number
        Of its operator.
    identity
        See :func:`.identity.identity`.
    inputs
        Which inputs of the node its calls read.
    calls
        In any order.
    leading
        How many sizes lead, 0 where no call is a part of another one.
    input_bytes, output_bytes
        Of a unit, for each input and output.
    """

    name: str
    number: int
    identity: tuple[int, int]
    inputs: tuple[int, ...]
    calls: Sequence[PreparedCall]
    leading: int = 0
    input_bytes: tuple[int, ...] = ()
    output_bytes: tuple[int, ...] = ()


def frozen_library(
    domains: Sequence[Domain],
    nodes: Sequence[Node],
    attributes: Mapping[int, Sequence[Attribute]],
    codes: Mapping[str, Image],
    blocks: Iterable[Block],
    soname: str,
) -> bytes:
    """Return the content of a library.

    Parameters
    ----------
    domains
        With their operators, which are numbered through all domains.
    nodes
        At least one.
    attributes
        For the number of each operator, those that tell its nodes apart.
    codes, blocks
        The tasks and the data of calls, by the names by which they name each other.
    soname
        See :func:`.shared_object.shared_object`.

    Raises
    ------
    LookupError
        There is no machine code that can be kept.
    LinkError
        The library would be too large.
    """
    own = _Blocks()
    following = ""
    for number in reversed(range(len(nodes))):
        following = own.add_node(f"node{number}", nodes[number], attributes[nodes[number].number], following)
    image = guard.guard()
    functions: dict[str, tuple[Callable[..., int], int]] = {**FUNCTIONS, **_FUNCTIONS}
    made = {name: compiled_image(*of) for name, of in functions.items()}
    text = own.text(_LESSER_CPU)
    rows = bytes(_WORD * guard.ADDRESSES) + guard.needed_rows(settings().cpu_features)
    needed = Block(_NEEDED, rows, False, (Pointer(0, _CHECK), Pointer(_WORD, text)))
    blocks = tuple(blocks)
    own.add_checked(blocks)
    stubs = [
        Stub(_REGISTER, "register", 2, LIBRARY),
        Stub(_CHECK, "check", 2, _CHECKED),
        Stub(_CREATE, "create_any_node", 4, following),
        Stub(ENTRY, _GUARD, 2, _NEEDED),
    ]
    all_blocks = [*blocks_of(domains, _MAKERS), *own.blocks, needed, *blocks]
    return shared_object({**made, _GUARD: image, **codes}, all_blocks, stubs, [ENTRY], soname)


class _Blocks:
    """Blocks of nodes."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self._texts: dict[str, str] = {}

    def text(self, text: str) -> str:
        """Return the name of the block of a text."""
        if text not in self._texts:
            self._texts[text] = f"text{len(self._texts)}"
            self.blocks.append(Block(self._texts[text], text.encode() + b"\0"))
        return self._texts[text]

    def add_checked(self, blocks: Sequence[Block]) -> None:
        """Add the checksums of blocks, apart from those that the loader writes to."""
        row: list[int] = []
        pointers: list[Pointer] = []
        state: NDArray[np.int64] = np.zeros(2, np.int64)
        for block in blocks:
            if not block.pointers:
                content = np.frombuffer(block.content, np.uint8)
                checksum(address_of(content), content.size, address_of(state))
                pointers.append(Pointer(_WORD * len(row), block.name))
                row += [0, content.size, *state.tolist()]
        rows = self._row(f"{_CHECKED}.rows", row, tuple(pointers))
        own: NDArray[np.int64] = np.zeros(checked.COUNT, np.int64)
        own[checked.ROW_COUNT // _WORD] = len(row) // 4
        places = {checked.GO_ON: _REGISTER, checked.ROWS: rows, checked.DAMAGED: self.text(_DAMAGED)}
        targets = tuple(Pointer(place, name) for place, name in places.items())
        self.blocks.append(Block(_CHECKED, own.tobytes(), False, targets))

    def add_node(self, name: str, node: Node, attributes: Sequence[Attribute], following: str) -> str:
        """Add the blocks of a node; return its name."""
        content: NDArray[np.int64] = np.zeros(words.COUNT, np.int64)
        content[words.NUMBER // _WORD] = node.number
        content[words.IDENTITY // _WORD :][:2] = node.identity
        content[words.ATTRIBUTE_COUNT // _WORD] = len(attributes)
        content[words.INPUT_COUNT // _WORD] = len(node.inputs)
        content[words.LEADING // _WORD] = node.leading
        no_call = (
            f"layer '{node.name}': expected inputs of shapes that the library was written for, got others."
            " Write it anew with such inputs: sparse-rt library MODEL -o LIB.so --inputs IN.npz."
        )
        pointers = [
            Pointer(words.LIBRARY, LIBRARY),
            Pointer(words.ATTRIBUTES, self._attributes(f"{name}.attributes", attributes)),
            Pointer(words.INPUTS, self._row(f"{name}.inputs", node.inputs)),
            Pointer(words.CALLS, self._calls(name, node.calls)),
            Pointer(words.INPUT_BYTES, self._row(f"{name}.input_bytes", node.input_bytes)),
            Pointer(words.OUTPUT_BYTES, self._row(f"{name}.output_bytes", node.output_bytes)),
            Pointer(words.NO_CALL, self.text(no_call)),
            Pointer(words.NO_NODE, self.text(_NO_NODE)),
        ]
        if following:
            pointers.append(Pointer(words.NEXT, following))
        self.blocks.append(Block(name, content.tobytes(), False, tuple(pointers)))
        return name

    def _attributes(self, name: str, attributes: Sequence[Attribute]) -> str:
        row = [word for each in attributes for word in (0, each.kind)]
        size = _WORD * attribute.COUNT
        pointers = [
            Pointer(number * size + attribute.NAME, self.text(each.name)) for number, each in enumerate(attributes)
        ]
        return self._row(name, row, tuple(pointers))

    def _calls(self, name: str, calls: Sequence[PreparedCall]) -> str:
        """Add the calls of a node, each of which names the next; return the name of the first."""
        following = ""
        for number in reversed(range(len(calls))):
            content, pointers = calls[number]
            if following:
                pointers = (*pointers, Pointer(call.NEXT, following))
            following = f"{name}.call{number}"
            self.blocks.append(Block(following, content, False, pointers))
        return following

    def _row(self, name: str, row: Sequence[int], pointers: tuple[Pointer, ...] = ()) -> str:
        content: NDArray[np.int64] = np.array([*row, 0], np.int64)
        self.blocks.append(Block(name, content.tobytes(), False, pointers))
        return name
