"""Read the object files that LLVM makes of x86-64 code, and lay each out as one image that can be put anywhere.

Numba has LLVM address everything by 64 bits, so that there are few kinds of relocation. What this file does not know it
refuses; see :mod:`sparse_rt_kernels.jit.machine_code` for what becomes of images.
"""

import struct
from typing import Final, NamedTuple

from sparse_rt_kernels.jit.elf import HEADER, MAGIC, RELOCATION, SECTION, SYMBOL, X86_64

__all__ = ["ALIGNMENT", "Image", "UnknownObjectError", "lay_out"]

_WORD: Final = struct.Struct("<q")
_RELOCATABLE: Final = 1
# Kinds of section.
_BITS, _SYMBOLS, _ADDENDS, _ZEROS, _UNWINDING = 1, 2, 4, 8, 0x70000001
_WRITABLE: Final = 1
_LOADED: Final = 2
_EXECUTABLE: Final = 4
# Places of a symbol that are no section: none; room of its own, near or far.
_UNDEFINED, _RESERVED, _COMMON, _FAR_COMMON = 0, 0xFF00, 0xFFF2, 0xFF02
# Relocations: the address in 64 bits, the distance in 64 bits.
_ABSOLUTE, _DISTANCE = 1, 24


class UnknownObjectError(ValueError):
    """An object file holds what this module does not know."""


class Image(NamedTuple):
    """Code and constants in one piece, the code first.

    Attributes
    ----------
    content
        To be put at a multiple of :data:`ALIGNMENT`.
    entry
        Where in it the function begins.
    inner
        Where in it a word is to be increased by the address of the image.
    outer
        Where in it a word is to be increased by the address of which symbol.
    code_size
        Where in it the constants begin, at a multiple of :data:`ALIGNMENT`. No distance from one side to the other is
        in it, so that the constants may be put elsewhere.
    to_constants
        Which of `inner` are addresses of constants; the others are addresses of code. The value of the word does not
        tell: code may name a place before a table.
    """

    content: bytes
    entry: int
    inner: tuple[int, ...]
    outer: tuple[tuple[int, str], ...]
    code_size: int
    to_constants: tuple[int, ...]


#: The most that any section of an image needs: a register of AVX-512.
ALIGNMENT: Final = 64


class _Section(NamedTuple):
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry: int


class _Symbol(NamedTuple):
    name: str
    section: int
    value: int
    size: int


def lay_out(content: bytes, function: str) -> Image:
    """Return the image of an object file, for calls of `function`.

    Raises
    ------
    UnknownObjectError
        The file is not for this format, holds data that code writes to, or relocations of other kinds.
    """
    sections = _sections(content)
    symbols = _symbols(content, sections)
    image = bytearray()
    places: dict[int, int] = {}
    _place(content, sections, True, image, places)
    code_size = len(image) + -len(image) % ALIGNMENT
    _place(content, sections, False, image, places)
    addresses: dict[int, int] = {}
    for number, symbol in enumerate(symbols):
        if symbol.section in places:
            addresses[number] = places[symbol.section] + symbol.value
        elif symbol.section in (_COMMON, _FAR_COMMON):
            addresses[number] = _append(image, bytes(symbol.size))
        elif symbol.section >= _RESERVED and symbol.name == function:
            raise UnknownObjectError(f"'{function}' is no code")
    entry = next((addresses[number] for number, each in enumerate(symbols) if each.name == function), None)
    if entry is None:
        raise UnknownObjectError(f"'{function}' is not defined")
    code = {number for number in places if sections[number].flags & _EXECUTABLE}
    words = _relocate(content, sections, symbols, places, addresses, code, image)
    image.extend(bytes(max(code_size - len(image), 0)))
    return Image(bytes(image), entry, tuple(words.inner), tuple(words.outer), code_size, tuple(words.to_constants))


def _place(content: bytes, sections: list[_Section], is_code: bool, image: bytearray, places: dict[int, int]) -> None:
    """Append the sections that hold code, or else constants, to `image`; note their places."""
    for number, section in enumerate(sections):
        # Nothing unwinds through a task.
        is_needed = section.flags & _LOADED and section.kind != _UNWINDING and section.size
        if is_needed and bool(section.flags & _EXECUTABLE) == is_code:
            if section.flags & _WRITABLE or section.kind not in (_BITS, _ZEROS) or section.align > ALIGNMENT:
                raise UnknownObjectError(f"a section of kind {section.kind} and flags {section.flags}")
            bits = bytes(section.size) if section.kind == _ZEROS else _part(content, section)
            places[number] = _append(image, bits)


class _Words(NamedTuple):
    """Of :class:`Image`, as they are found."""

    inner: list[int]
    outer: list[tuple[int, str]]
    to_constants: list[int]


def _relocate(
    content: bytes,
    sections: list[_Section],
    symbols: list[_Symbol],
    places: dict[int, int],
    addresses: dict[int, int],
    code: set[int],
    image: bytearray,
) -> _Words:
    """Settle in `image` what does not depend on where it will be; return the other words."""
    words = _Words([], [], [])
    for section in sections:
        if section.kind != _ADDENDS or section.info not in places:
            continue
        for offset, info, addend in RELOCATION.iter_unpack(_part(content, section)):
            number, kind = info >> 32, info & 0xFFFFFFFF
            at, target = places[section.info] + offset, addresses.get(number)
            is_code = symbols[number].section in code
            if kind == _ABSOLUTE and target is not None:
                words.inner.append(at)
                if not is_code:
                    words.to_constants.append(at)
                _WORD.pack_into(image, at, target + addend)
            elif kind == _ABSOLUTE and symbols[number].section == _UNDEFINED:
                words.outer.append((at, symbols[number].name))
                _WORD.pack_into(image, at, addend)
            elif kind == _DISTANCE and target is not None and is_code == (section.info in code):
                _WORD.pack_into(image, at, target + addend - at)
            else:
                raise UnknownObjectError(f"a relocation of kind {kind} to '{symbols[number].name}'")
    return words


def _append(image: bytearray, bits: bytes) -> int:
    image.extend(bytes(-len(image) % ALIGNMENT))
    place = len(image)
    image.extend(bits)
    return place


def _part(content: bytes, section: _Section) -> bytes:
    return content[section.offset : section.offset + section.size]


def _sections(content: bytes) -> list[_Section]:
    if len(content) < HEADER.size or not content.startswith(MAGIC):
        raise UnknownObjectError("not ELF")
    _, kind, machine, _, _, _, first, _, _, _, _, size, count, _ = HEADER.unpack_from(content)
    if (kind, machine, size) != (_RELOCATABLE, X86_64, SECTION.size):
        raise UnknownObjectError(f"kind {kind}, machine {machine}")
    return [_Section(*SECTION.unpack_from(content, first + number * size)) for number in range(count)]


def _symbols(content: bytes, sections: list[_Section]) -> list[_Symbol]:
    table = next((section for section in sections if section.kind == _SYMBOLS), None)
    if table is None:
        raise UnknownObjectError("no symbols")
    names = _part(content, sections[table.link])
    found = []
    for name, _, _, section, value, size in SYMBOL.iter_unpack(_part(content, table)):
        found.append(_Symbol(names[name : names.index(b"\0", name)].decode(), section, value, size))
    return found
