"""Write shared objects (ELF, x86-64 Linux) of images and data, without compiler or linker.

An object needs no Python: what only the error paths of Numba's wrappers call, and no function of ours reaches, ends the
process. The same input gives the same bytes.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from sparse_rt_kernels.jit.object_file import Image
from sparse_rt_kernels.jit.relaxed import relaxed
from sparse_rt_kernels.jit.shared_file import DATA, FUNCTION, WORD, LinkError, Piece, Pieces, Place, Symbol, file_of

__all__ = ["Block", "LinkError", "Pointer", "Stub", "shared_object"]

#: What is imported, by the library that defines it.
_LIBRARIES: Final = {
    "libc.so.6": frozenset(
        {
            *("memset", "memcpy", "memmove", "memcmp", "malloc", "calloc", "free"),
            *("sched_yield", "sched_getcpu", "sched_getaffinity"),
        }
    ),
    "libm.so.6": frozenset({"exp", "expf", "log", "logf", "pow", "powf", "tanh", "tanhf", "erf", "erff", "fmaf"}),
    "libpthread.so.0": frozenset({"sem_init", "sem_post", "sem_wait"}),
}
#: How the names begin of what only error paths of Numba's wrappers name: data of Python's, and functions.
_DEAD_DATA: Final = ("PyExc_",)
_DEAD_FUNCTIONS: Final = ("PyErr_", "PyUnicode_", "PyBytes_", "Py_", "numba_", "NRT_")
_UD2: Final = b"\x0f\x0b"
#: First bytes of `lea register, [rip + distance]`, by the number of the argument that System V passes in the register.
_LEA: Final = ("488d3d", "488d35", "488d15", "488d0d", "4c8d05", "4c8d0d")
_JUMP: Final = b"\xe9"
_DISTANCE: Final = 4


class Pointer(NamedTuple):
    """A word of a block that is to hold an address.

    Attributes
    ----------
    at
        Its place in the block, in bytes.
    target
        Name of the block, code or stub that it points to.
    addend
        Bytes from there.
    """

    at: int
    target: str
    addend: int = 0


class Block(NamedTuple):
    """Data of a shared object, at an address that is a multiple of 64.

    Attributes
    ----------
    name
        What pointers, stubs and exports call it.
    content
        Its bytes.
    is_writable
        Whether anybody may write to it when it is loaded.
    pointers
        Its words that are addresses.
    """

    name: str
    content: bytes | memoryview
    is_writable: bool = False
    pointers: tuple[Pointer, ...] = ()


class Stub(NamedTuple):
    """A function that calls another one with the address of a block in one of its arguments.

    Attributes
    ----------
    name
        What pointers and exports call it.
    code
        Name of the function that it jumps to.
    argument
        Which argument, 0 to 5, is the block's address; the others stay what they are.
    block
        Name of the block.
    """

    name: str
    code: str
    argument: int
    block: str


def shared_object(
    codes: Mapping[str, Image], blocks: Iterable[Block], stubs: Iterable[Stub], exports: Iterable[str], soname: str
) -> bytes:
    """Return the content of a shared object.

    Parameters
    ----------
    codes
        Functions by their names.
    blocks
        Data.
    stubs
        Functions that pass a block to one of `codes`.
    exports
        Names of codes, blocks and stubs that others find in the object.
    soname
        The name that the object gives itself.

    Raises
    ------
    LinkError
        A name is given twice, or not at all; code calls what is neither of the C library nor unreachable, or names an
        address by other instructions than LLVM's; or the object has more than 2 GB.
    """
    maker = _Maker()
    blocks = tuple(blocks)
    for name, image in codes.items():
        maker.add_code(name, image)
    for block in blocks:
        maker.add_block(block)
    for stub in stubs:
        maker.add_stub(stub)
    for block in blocks:
        maker.point(block)
    found = [maker.find(name) for name in sorted(set(exports))]
    libraries = sorted({_library_of(name) for name in maker.pieces.imports})
    return file_of(maker.pieces, found, libraries, soname)


class _Maker:
    """Takes what an object consists of, and names it."""

    def __init__(self) -> None:
        self.pieces = Pieces([], [], [], [], [], [], {})
        self._named: dict[str, Symbol] = {}
        self._trap = Place(Piece(_UD2), 0)
        self._nothing = Place(Piece(bytes(WORD)), 0)
        self.pieces.code.append(self._trap.piece)
        self.pieces.constant.append(self._nothing.piece)

    def add_code(self, name: str, image: Image) -> None:
        """Add a function, whose constants lie apart."""
        done = relaxed(image, frozenset(symbol for _, symbol in image.outer if _is_dead(symbol)))
        own = code, constants = Piece(done.code), Piece(done.constants)
        self.pieces.code.append(code)
        (self.pieces.relocated if done.own_words else self.pieces.constant).append(constants)
        self._name(name, Place(code, image.entry), FUNCTION, image.code_size - image.entry)
        self.pieces.distances.extend((Place(code, at), Place(own[part], offset)) for at, part, offset in done.to_own)
        self.pieces.distances.extend((Place(code, at), self._outer(symbol)) for at, symbol in done.to_symbols)
        words = ((Place(constants, at), Place(own[part], offset)) for at, part, offset in done.own_words)
        self.pieces.addresses.extend(words)

    def add_block(self, block: Block) -> None:
        """Add data; its pointers follow when everything has a name."""
        piece = Piece(block.content)
        if block.is_writable:
            self.pieces.written.append(piece)
        else:
            (self.pieces.relocated if block.pointers else self.pieces.constant).append(piece)
        self._name(block.name, Place(piece, 0), DATA, len(block.content))

    def add_stub(self, stub: Stub) -> None:
        """Add a stub; what it names is there already."""
        if not 0 <= stub.argument < len(_LEA):
            raise LinkError(f"stub '{stub.name}': argument {stub.argument} is not passed in a register")
        lea = bytes.fromhex(_LEA[stub.argument])
        piece = Piece(lea + bytes(_DISTANCE) + _JUMP + bytes(_DISTANCE), 16)
        self.pieces.code.append(piece)
        self.pieces.distances.append((Place(piece, len(lea)), self.find(stub.block).place))
        self.pieces.distances.append((Place(piece, len(piece.content) - _DISTANCE), self.find(stub.code).place))
        self._name(stub.name, Place(piece, 0), FUNCTION, len(piece.content))

    def point(self, block: Block) -> None:
        """Note the pointers of a block."""
        own = self.find(block.name).place.piece
        for at, target, addend in block.pointers:
            if not 0 <= at <= len(block.content) - WORD:
                raise LinkError(f"block '{block.name}': no word at {at} of {len(block.content)} bytes")
            piece, offset = self.find(target).place
            self.pieces.addresses.append((Place(own, at), Place(piece, offset + addend)))

    def find(self, name: str) -> Symbol:
        """Return what has a name."""
        if name not in self._named:
            raise LinkError(f"nothing is called '{name}'")
        return self._named[name]

    def _name(self, name: str, place: Place, kind: int, size: int) -> None:
        if name in self._named:
            raise LinkError(f"two things are called '{name}'")
        self._named[name] = Symbol(name, place, kind, size)

    def _outer(self, symbol: str) -> Place:
        """Return where code finds a symbol that is not its own, or its address if that is imported."""
        if symbol.startswith(_DEAD_DATA):
            return self._nothing
        if symbol.startswith(_DEAD_FUNCTIONS):
            return self._trap
        _library_of(symbol)
        if symbol not in self.pieces.imports:
            piece = Piece(bytes(WORD), WORD)
            self.pieces.relocated.append(piece)
            self.pieces.imports[symbol] = Place(piece, 0)
        return self.pieces.imports[symbol]


def _is_dead(symbol: str) -> bool:
    return symbol.startswith(_DEAD_DATA + _DEAD_FUNCTIONS)


def _library_of(symbol: str) -> str:
    for library, names in _LIBRARIES.items():
        if symbol in names:
            return library
    raise LinkError(f"code calls '{symbol}', which no library without Python has")
