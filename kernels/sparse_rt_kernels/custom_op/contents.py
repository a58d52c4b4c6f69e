"""What a library is made of: its functions, and its block of words with operators, names and texts."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.custom_op import c_api, compute, describe, register, tasks
from sparse_rt_kernels.custom_op.words import domain, library, op
from sparse_rt_kernels.jit.compilation import compiled_image
from sparse_rt_kernels.jit.shared_object import Block, Pointer, Stub, shared_object

__all__ = [
    "ANY_TYPE",
    "FUNCTIONS",
    "LIBRARY",
    "OPTIONAL",
    "REQUIRED",
    "VARIADIC",
    "Domain",
    "Operand",
    "Operator",
    "ENTRY",
    "blocks_of",
    "library_of",
]

#: Name of the library's block, which has :mod:`.words.library`.
LIBRARY: Final = "sparse_rt_library"
#: The function that onnxruntime calls.
ENTRY: Final = "RegisterCustomOps"
_DOMAINS: Final = "domains"
_OPERATORS: Final = "operators"
_TYPES: Final = "types"
_TEXTS: Final = "texts"

#: onnxruntime's OrtCustomOpInputOutputCharacteristic.
REQUIRED, OPTIONAL, VARIADIC = 0, 1, 2
#: ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED: of any type.
ANY_TYPE: Final = 0

_WORD: Final = 8


class _Function(NamedTuple):
    """A compiled function of words, and how many it takes."""

    function: Callable[..., int]
    words: int


#: What a library runs, by the names of the pieces of code.
FUNCTIONS: Final[Mapping[str, _Function]] = {
    "register": _Function(register.register, 3),
    "create": _Function(register.create, 4),
    "destroy": _Function(register.destroy, 1),
    "compute": _Function(compute.compute, 2),
    "work": _Function(tasks.work, 2),
    "meet": _Function(tasks.meet, 2),
    **{function.__name__: _Function(function, words) for function, words in describe.FUNCTIONS},
}

#: Which function stands at which place of an operator.
_PLACES: Final = {
    op.GET_NAME: "name",
    op.GET_PROVIDER: "nothing",
    op.GET_INPUT_TYPE: "input_type",
    op.GET_INPUT_COUNT: "input_count",
    op.GET_OUTPUT_TYPE: "output_type",
    op.GET_OUTPUT_COUNT: "output_count",
    op.DESTROY: "destroy",
    op.GET_INPUT_KIND: "input_kind",
    op.GET_OUTPUT_KIND: "output_kind",
    op.GET_INPUT_MEMORY: "default_memory",
    op.GET_FEWEST_INPUTS: "one",
    op.ARE_INPUTS_ALIKE: "nothing",
    op.GET_FEWEST_OUTPUTS: "one",
    op.ARE_OUTPUTS_ALIKE: "nothing",
    op.CREATE: "create",
    op.COMPUTE: "compute",
}

#: Texts of errors, by their places in the library's block.
_ERRORS: Final = {
    library.NO_CREATOR: "sparse_rt library: expected the process of Python whose sparse_rt.get_library_path() named it,"
    " got another one. For other processes write a library of the model's own: sparse-rt library MODEL -o LIB.so.",
    library.TOO_OLD: f"sparse_rt library: expected onnxruntime 1.{c_api.VERSION} or newer, got an older one."
    " Use a newer onnxruntime, or do not register the library: compressed files run without it.",
    library.TOO_MANY: "sparse_rt kernel: expected inputs of fewer axes in all.",
    library.NO_MEMORY: "sparse_rt kernel: expected scratch memory of onnxruntime's allocator, got none.",
    library.FAILED: "sparse_rt kernel: expected a call for these inputs, got none.",
}


class Operand(NamedTuple):
    """An input or output of an operator: its ONNXTensorElementDataType, and REQUIRED, OPTIONAL or VARIADIC."""

    type: int
    kind: int = REQUIRED


class Operator(NamedTuple):
    """A custom operator. Two of one name differ in their types."""

    name: str
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]


class Domain(NamedTuple):
    """A domain and its operators."""

    name: str
    operators: tuple[Operator, ...]


def library_of(domains: Sequence[Domain], soname: str) -> bytes:
    """Return the content of a library with these operators; they are numbered through all domains.

    It exports :data:`ENTRY`, and :data:`LIBRARY`, whose words say what makes kernels: nothing does yet.

    Raises
    ------
    LookupError
        There is no machine code that can be kept: on other systems than x86-64 Linux.
    """
    codes = {name: compiled_image(*of) for name, of in FUNCTIONS.items()}
    stub = Stub(ENTRY, "register", 2, LIBRARY)
    return shared_object(codes, blocks_of(domains), [stub], [ENTRY, LIBRARY], soname)


class _Texts:
    """Texts in a row, each found by its offset."""

    def __init__(self) -> None:
        self.content = bytearray()
        self._places: dict[str, int] = {}

    def place(self, text: str) -> int:
        """Return the offset of a text."""
        if text not in self._places:
            self._places[text] = len(self.content)
            self.content += text.encode() + b"\0"
        return self._places[text]


class _Words:
    """Words in a row, some of which are addresses."""

    def __init__(self, count: int = 0) -> None:
        self.words = [0] * count
        self.pointers: list[Pointer] = []

    def point(self, offset: int, target: str, addend: int = 0) -> None:
        """Make the word at `offset` the address of a block or a function."""
        self.pointers.append(Pointer(offset, target, addend))

    def block(self, name: str, *, is_writable: bool) -> Block:
        """Return them as a block."""
        words: NDArray[np.int64] = np.array(self.words, np.int64)
        return Block(name, words.tobytes(), is_writable, tuple(self.pointers))


def blocks_of(domains: Sequence[Domain], makers: Mapping[int, str] = MappingProxyType({})) -> list[Block]:
    """Return the data of a library; its words name functions of :data:`FUNCTIONS`.

    `makers` are the names of the functions that make kernels, by their places in :mod:`.words.library`.
    """
    texts, types, operators = _Texts(), _Words(), _Words()
    own, of_domains = _Words(library.COUNT), _Words(domain.COUNT * len(domains))
    own.point(library.WORK, "work")
    own.point(library.MEET, "meet")
    own.point(library.DOMAINS, _DOMAINS)
    for place, name in makers.items():
        own.point(place, name)
    own.words[library.DOMAIN_COUNT // _WORD] = len(domains)
    for place, text in _ERRORS.items():
        own.point(place, _TEXTS, texts.place(text))
    number = 0
    for index, each in enumerate(domains):
        at = index * domain.COUNT * _WORD
        of_domains.point(at + domain.NAME, _TEXTS, texts.place(each.name))
        of_domains.point(at + domain.OPS, _OPERATORS, number * op.COUNT * _WORD)
        of_domains.words[(at + domain.OP_COUNT) // _WORD] = len(each.operators)
        for operator in each.operators:
            _add_operator(operators, types, texts, operator, number)
            number += 1
    return [
        own.block(LIBRARY, is_writable=True),
        of_domains.block(_DOMAINS, is_writable=True),
        operators.block(_OPERATORS, is_writable=False),
        types.block(_TYPES, is_writable=False),
        Block(_TEXTS, bytes(texts.content), False, ()),
    ]


def _add_operator(operators: _Words, types: _Words, texts: _Texts, operator: Operator, number: int) -> None:
    at = number * op.COUNT * _WORD
    operators.words.extend([0] * op.COUNT)

    def put(offset: int, value: int) -> None:
        operators.words[(at + offset) // _WORD] = value

    put(op.VERSION, c_api.VERSION)
    put(op.NUMBER, number)
    put(op.INPUT_COUNT, len(operator.inputs))
    put(op.OUTPUT_COUNT, len(operator.outputs))
    for place, function in _PLACES.items():
        operators.point(at + place, function)
    operators.point(at + op.LIBRARY, LIBRARY)
    operators.point(at + op.NAME, _TEXTS, texts.place(operator.name))
    rows: dict[int, list[int]] = {
        op.INPUT_TYPES: [operand.type for operand in operator.inputs],
        op.INPUT_KINDS: [operand.kind for operand in operator.inputs],
        op.OUTPUT_TYPES: [operand.type for operand in operator.outputs],
        op.OUTPUT_KINDS: [operand.kind for operand in operator.outputs],
    }
    for place, row in rows.items():
        operators.point(at + place, _TYPES, _WORD * len(types.words))
        types.words.extend(row)
