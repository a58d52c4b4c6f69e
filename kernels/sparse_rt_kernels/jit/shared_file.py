"""The layout of a shared object's file: segments, the tables that the loader reads, and what is filled in at the end.

Three segments are loaded: what is only read, beginning with the tables; code; and data, the first part of which is
written by the loader alone, that puts addresses in it. Nothing is both written and run, and the loader changes no code.
Places in the file are distances from where it is mapped.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from sparse_rt_kernels.jit.elf import HEADER, MAGIC, RELOCATION, SYMBOL, X86_64
from sparse_rt_kernels.jit.object_file import ALIGNMENT

__all__ = ["DATA", "FUNCTION", "WORD", "LinkError", "Piece", "Pieces", "Place", "Symbol", "file_of"]

WORD: Final = 8
_PAGE: Final = 4096
#: Code names places by 32 bits of distance.
_LARGEST: Final = (1 << 31) - _PAGE
#: A program header: kind, flags, offset, address, physical address, size in the file, in memory, alignment.
_PROGRAM: Final = struct.Struct("<IIQQQQQQ")
_DYNAMIC: Final = struct.Struct("<QQ")
_NEAR: Final = struct.Struct("<i")
_HALF: Final = struct.Struct("<I")
_SHARED: Final = 3
# Kinds of program header, and what a segment may be used for.
_LOAD, _DYNAMIC_TABLE, _STACK, _READ_ONLY_LATER = 1, 2, 0x6474E551, 0x6474E552
_RUN, _WRITE, _READ = 1, 2, 4
_PROGRAMS: Final = 6
# Kinds of entry of the dynamic table.
_END, _NEEDED, _HASH, _NAMES, _SYMBOLS, _RELOCATIONS, _RELOCATIONS_SIZE, _RELOCATION_SIZE = 0, 1, 4, 5, 6, 7, 8, 9
_NAMES_SIZE, _SYMBOL_SIZE, _SONAME, _RELATIVE_COUNT = 10, 11, 14, 0x6FFFFFF9
# Kinds of relocation: an address in another object; one in this.
_IMPORTED, _RELATIVE = 6, 8
# Kinds of symbol.
DATA, FUNCTION = 1, 2
_GLOBAL: Final = 1 << 4
#: Any section but none: the file has no table of sections, which only tools read.
_SOMEWHERE: Final = 1
_INT3: Final = b"\xcc"


class LinkError(ValueError):
    """A shared object cannot be made of what was given."""


class Piece:
    """Bytes that lie together.

    Parameters
    ----------
    content
        Of the piece.
    alignment
        Its address is a multiple of this.
    """

    def __init__(self, content: bytes | memoryview, alignment: int = ALIGNMENT) -> None:
        self.content: bytes | bytearray | memoryview = content
        self.alignment = alignment
        #: Known once everything is laid out.
        self.address = 0

    def put(self, offset: int, content: bytes) -> None:
        """Replace bytes of it."""
        if not isinstance(self.content, bytearray):
            self.content = bytearray(self.content)
        self.content[offset : offset + len(content)] = content


class Place(NamedTuple):
    """A place in a piece."""

    piece: Piece
    offset: int

    @property
    def address(self) -> int:
        """Its distance from where the file is mapped."""
        return self.piece.address + self.offset


class Symbol(NamedTuple):
    """What other objects find by its name."""

    name: str
    place: Place
    kind: int
    size: int


class Pieces(NamedTuple):
    """What a file holds beside its tables.

    Attributes
    ----------
    constant, code, relocated, written
        Pieces that are only read; run; written by the loader and then only read; written by anybody.
    distances
        (where, what) of 32 bits that are to hold the distance from their end.
    addresses
        (where, what) of 64 bits that are to hold an address.
    imports
        Where the address of another library's symbol is to be.
    """

    constant: list[Piece]
    code: list[Piece]
    relocated: list[Piece]
    written: list[Piece]
    distances: list[tuple[Place, Place]]
    addresses: list[tuple[Place, Place]]
    imports: dict[str, Place]


class _Segment(NamedTuple):
    start: int
    end: int
    pieces: list[Piece]
    fill: bytes


class _Tables:
    """Those that the loader reads. Their sizes are known before anything has its place."""

    def __init__(self, pieces: Pieces, exports: list[Symbol], libraries: list[str], soname: str) -> None:
        self._pieces = pieces
        self._exports = exports
        symbols = [*pieces.imports, *(symbol.name for symbol in exports)]
        names = bytearray(1)
        starts = []
        for name in [*symbols, *libraries, soname]:
            starts.append(len(names))
            names += name.encode() + b"\0"
        self._symbol_names = starts[: len(symbols)]
        self._needed, self._soname = starts[len(symbols) : -1], starts[-1]
        self.head = Piece(bytes(HEADER.size + _PROGRAMS * _PROGRAM.size))
        self._names = Piece(bytes(names), 1)
        self._hash = Piece(_hash_table(symbols), WORD)
        self._symbols = Piece(bytes(SYMBOL.size * (1 + len(symbols))), WORD)
        self._relocations = Piece(bytes(RELOCATION.size * (len(pieces.addresses) + len(pieces.imports))), WORD)
        self.dynamic = Piece(b"", WORD)
        self.dynamic.content = self._dynamic_content()

    @property
    def constant(self) -> list[Piece]:
        """Those that are only read, in their order."""
        return [self.head, self._hash, self._symbols, self._names, self._relocations]

    def fill(self) -> None:
        """Fill in what depends on places."""
        symbols = bytearray(SYMBOL.size)
        for name in self._symbol_names[: len(self._pieces.imports)]:
            symbols += SYMBOL.pack(name, _GLOBAL | FUNCTION, 0, 0, 0, 0)
        for name, symbol in zip(self._symbol_names[len(self._pieces.imports) :], self._exports, strict=True):
            symbols += SYMBOL.pack(name, _GLOBAL | symbol.kind, 0, _SOMEWHERE, symbol.place.address, symbol.size)
        self._symbols.content = bytes(symbols)
        own = sorted((where.address, what.address) for where, what in self._pieces.addresses)
        relocations = [RELOCATION.pack(where, _RELATIVE, what) for where, what in own]
        for number, where in enumerate(self._pieces.imports.values(), 1):
            relocations.append(RELOCATION.pack(where.address, number << 32 | _IMPORTED, 0))
        self._relocations.content = b"".join(relocations)
        self.dynamic.content = self._dynamic_content()

    def _dynamic_content(self) -> bytes:
        entries = [(_NEEDED, name) for name in self._needed]
        entries += [
            (_SONAME, self._soname),
            (_HASH, self._hash.address),
            (_NAMES, self._names.address),
            (_NAMES_SIZE, len(self._names.content)),
            (_SYMBOLS, self._symbols.address),
            (_SYMBOL_SIZE, SYMBOL.size),
            (_RELOCATIONS, self._relocations.address),
            (_RELOCATIONS_SIZE, len(self._relocations.content)),
            (_RELOCATION_SIZE, RELOCATION.size),
            (_RELATIVE_COUNT, len(self._pieces.addresses)),
            (_END, 0),
        ]
        return b"".join(_DYNAMIC.pack(*entry) for entry in entries)


def file_of(pieces: Pieces, exports: list[Symbol], libraries: list[str], soname: str) -> bytes:
    """Return the content of a shared object.

    Parameters
    ----------
    pieces
        What it holds; their addresses are set.
    exports
        What others find in it.
    libraries
        Names of those that define what it imports.
    soname
        The name that it gives itself.

    Raises
    ------
    LinkError
        It is too large for near addresses.
    """
    tables = _Tables(pieces, exports, libraries, soname)
    constant = _laid_out([*tables.constant, *pieces.constant], 0, b"\0")
    code = _laid_out(pieces.code, _page_after(constant.end), _INT3)
    relocated = _laid_out([*pieces.relocated, tables.dynamic], _page_after(code.end), b"\0")
    # The loader forbids writing to whole pages.
    written = _laid_out(pieces.written, _page_after(relocated.end), b"\0")
    if written.end > _LARGEST:
        raise LinkError(f"{written.end} bytes are more than near addresses reach")
    tables.fill()
    tables.head.content = _head(constant, code, relocated, written, tables.dynamic)
    for where, what in pieces.distances:
        where.piece.put(where.offset, _NEAR.pack(what.address - where.address - _NEAR.size))
    for where, _ in pieces.addresses:
        where.piece.put(where.offset, bytes(WORD))
    return b"".join(_bytes_of((constant, code, relocated, written)))


def _laid_out(pieces: list[Piece], start: int, fill: bytes) -> _Segment:
    """Give pieces their addresses, one behind another."""
    end = start
    for piece in pieces:
        piece.address = end + -end % piece.alignment
        end = piece.address + len(piece.content)
    return _Segment(start, end, pieces, fill)


def _page_after(end: int) -> int:
    return end + -end % _PAGE


def _bytes_of(segments: tuple[_Segment, ...]) -> Iterator[bytes | bytearray | memoryview]:
    end = 0
    for segment in segments:
        yield bytes(segment.start - end)
        end = segment.start
        for piece in segment.pieces:
            yield segment.fill * (piece.address - end)
            yield piece.content
            end = piece.address + len(piece.content)


def _head(constant: _Segment, code: _Segment, relocated: _Segment, written: _Segment, dynamic: Piece) -> bytes:
    """Return the file's header and the program headers."""

    def program(kind: int, flags: int, start: int, end: int, alignment: int) -> bytes:
        return _PROGRAM.pack(kind, flags, start, start, start, end - start, end - start, alignment)

    programs = (
        program(_LOAD, _READ, constant.start, constant.end, _PAGE),
        program(_LOAD, _READ | _RUN, code.start, code.end, _PAGE),
        program(_LOAD, _READ | _WRITE, relocated.start, written.end, _PAGE),
        program(_DYNAMIC_TABLE, _READ | _WRITE, dynamic.address, dynamic.address + len(dynamic.content), WORD),
        program(_STACK, _READ | _WRITE, 0, 0, 2 * WORD),
        program(_READ_ONLY_LATER, _READ, relocated.start, written.start, 1),
    )
    identity = (MAGIC + b"\1").ljust(16, b"\0")
    sizes = (HEADER.size, _PROGRAM.size, len(programs), 0, 0, 0)
    header = HEADER.pack(identity, _SHARED, X86_64, 1, 0, HEADER.size, 0, 0, *sizes)
    return header + b"".join(programs)


def _hash_table(names: list[str]) -> bytes:
    """Return System V's hash table of symbols 1 and up."""
    buckets, chains = [0] * max(len(names), 1), [0] * (1 + len(names))
    for number, name in enumerate(names, 1):
        bucket = _hash(name) % len(buckets)
        chains[number], buckets[bucket] = buckets[bucket], number
    return b"".join(map(_HALF.pack, (len(buckets), len(chains), *buckets, *chains)))


def _hash(name: str) -> int:
    found = 0
    for byte in name.encode():
        found = (found << 4) + byte
        high = found & 0xF0000000
        found = (found ^ high >> 24) & ~high
    return found
