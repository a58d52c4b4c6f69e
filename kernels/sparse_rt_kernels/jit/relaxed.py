"""Code of an image without addresses in it, so that its pages stay as they are in a file, wherever that is mapped.

LLVM names every address by `movabs`, ten bytes of which eight are the address. In a shared object a distance serves:
`lea` computes an address from it, and `mov` loads one of another library's from the table of imports; both take seven
bytes, and a nop of three follows.
"""

from typing import Final, NamedTuple

from sparse_rt_kernels.jit.object_file import Image
from sparse_rt_kernels.jit.shared_file import WORD, LinkError

__all__ = ["Relaxed", "relaxed"]

#: Opcode of `movabs`, to which the register's number is added, and its prefixes for registers 0 to 7 and 8 to 15.
_MOVABS: Final = 0xB8
_REX_LOW, _REX_HIGH = 0x48, 0x49
#: Prefix by which `lea` and `mov` name registers 8 to 15.
_REX_TARGET_HIGH: Final = 0x4C
_LEA, _MOV = 0x8D, 0x8B
#: Mode of an operand whose place is told by its distance from the next instruction.
_BY_DISTANCE: Final = 0b101
_NOP: Final = b"\x0f\x1f\x00"


class Relaxed(NamedTuple):
    """What an image becomes.

    Attributes
    ----------
    code
        Its code; where it is to hold distances, zeros.
    constants
        Its constants; where they are to hold addresses, zeros.
    to_own
        (place in the code, whether among the constants, offset there) of distances; 32 bits each, from their own end.
    to_symbols
        (place in the code, symbol) of distances to where the symbol's address will be kept.
    own_words
        (place in the constants, whether among the constants, offset there) of addresses, 64 bits each.
    """

    code: bytes
    constants: bytes
    to_own: tuple[tuple[int, bool, int], ...]
    to_symbols: tuple[tuple[int, str], ...]
    own_words: tuple[tuple[int, bool, int], ...]


def relaxed(image: Image, is_direct: frozenset[str]) -> Relaxed:
    """Take the addresses out of an image.

    Parameters
    ----------
    image
        As LLVM made it.
    is_direct
        Symbols that the shared object itself defines: :attr:`Relaxed.to_symbols` are distances to the symbol.

    Raises
    ------
    LinkError
        An address is in the code, but not by `movabs`; or one of another library's is among the constants.
    """
    code, constants = bytearray(image.content[: image.code_size]), bytearray(image.content[image.code_size :])
    to_constants = frozenset(image.to_constants)
    to_own, to_symbols, own_words = [], [], []
    for at in image.inner:
        is_constant = at in to_constants
        offset = _word(image.content, at) - (image.code_size if is_constant else 0)
        if at < image.code_size:
            to_own.append((_relax(code, at, _LEA), is_constant, offset))
        else:
            place = at - image.code_size
            own_words.append((place, is_constant, offset))
            constants[place : place + WORD] = bytes(WORD)
    for at, symbol in image.outer:
        if at >= image.code_size or _word(image.content, at):
            raise LinkError(f"the address of '{symbol}' is not named by code as it is")
        to_symbols.append((_relax(code, at, _LEA if symbol in is_direct else _MOV), symbol))
    return Relaxed(bytes(code), bytes(constants), tuple(to_own), tuple(to_symbols), tuple(own_words))


def _word(content: bytes, at: int) -> int:
    return int.from_bytes(content[at : at + WORD], "little", signed=True)


def _relax(code: bytearray, at: int, opcode: int) -> int:
    """Replace the `movabs` whose address is at `at`; return where the distance is to be."""
    prefix, register = (code[at - 2], code[at - 1] - _MOVABS) if at >= 2 else (0, -1)
    if prefix not in (_REX_LOW, _REX_HIGH) or not 0 <= register < 8:
        raise LinkError("an address is in the code, but not by movabs")
    rex = _REX_LOW if prefix == _REX_LOW else _REX_TARGET_HIGH
    code[at - 2 : at + WORD] = bytes((rex, opcode, register << 3 | _BY_DISTANCE)) + bytes(4) + _NOP
    return at + 1
