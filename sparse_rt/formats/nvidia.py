"""NVIDIA's 2:4 metadata: import and export (docs/formats.md).

The same nibbles as :mod:`sparse_rt.formats.n2m4`, with absolute positions 0..3 in ascending order. Ours names the
second element from e1 on, so for the six canonical pairs ours = theirs - 4: one less in the upper field.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt import arguments
from sparse_rt.boundary import public
from sparse_rt.errors import FormatError, message
from sparse_rt.formats.n2m4 import CompressedWeight, decode, encode, k4_of
from sparse_rt.formats.shape import checked_shape

__all__ = ["from_nvidia_metadata", "to_nvidia_metadata"]

_NVIDIA_NIBBLES = (0x4, 0x8, 0xC, 0x9, 0xD, 0xE)
_METADATA_DTYPES = tuple(np.dtype(t) for t in (np.uint8, np.uint16, np.int16, np.uint32, np.int32))


def _nvidia_table() -> NDArray[np.uint8]:
    """Canonical index byte of ours -> metadata byte.

    A lone value keeps its slot; its partner, a zero, is the neighbour after it. (01,00) names e1 twice, so it becomes
    (1, 2); (10,00) becomes (2, 3).
    """
    single = {0x1: 0x9, 0x2: 0xE, 0x6: 0xE}
    nibbles = [single.get(nibble, nibble + 4 if nibble + 4 in _NVIDIA_NIBBLES else 0) for nibble in range(16)]
    return np.array([nibbles[byte & 15] | nibbles[byte >> 4] << 4 for byte in range(256)], np.uint8)


_NVIDIA_OF_BYTE = _nvidia_table()
_NVIDIA_BYTE_VALID = np.array(
    [byte & 15 in _NVIDIA_NIBBLES and byte >> 4 in _NVIDIA_NIBBLES for byte in range(256)], np.bool_
)


@public
def to_nvidia_metadata(weight: CompressedWeight) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Return values (n, k4 / 2) and linear 2:4 metadata (n, ceil(k4 / 8)) uint8 of a compressed weight.

    Group g of a row is the nibble ``p0 | p1 << 2`` with absolute positions p0 < p1; low nibble first. An unused high
    nibble at a row's end is zero. View the bytes as little-endian words for the wider forms. This is the linear order,
    not the interleaved one that some GEMM libraries reorder it to.

    Raises
    ------
    FormatError
        If `weight` is corrupt (see `decode`).
    """
    # A foreign file may hold pairs that NVIDIA cannot name (both indexes on one element): decode resolves them.
    canonical = encode(decode(weight))
    metadata = _NVIDIA_OF_BYTE[canonical.index]
    if canonical.k4 % 8:
        metadata[:, -1] &= 15
    return canonical.values, metadata


@public
def from_nvidia_metadata(
    values: NDArray[Any], metadata: NDArray[Any], shape: Sequence[int], where: str = "2:4 metadata"
) -> CompressedWeight:
    """Compress from NVIDIA's form: values and absolute positions.

    Parameters
    ----------
    values
        (n, k4 / 2), two a group, in ascending position.
    metadata
        (n, ceil(k4 / 8)) uint8, or the same bytes as little-endian 16- or 32-bit words, then padded with zeros to
        whole words. The layout is that of `to_nvidia_metadata`: linear, low nibble first.
    shape
        Dense shape, (n, c) or (n, c, *kernel); k runs over (kernel..., channel), as in K R S C weights.
    where
        What errors call the weight.

    Raises
    ------
    FormatError
        If sizes do not fit, or a pair of positions is equal or descending (with its coordinate).
    """
    sizes = checked_shape(shape, where)
    rows, k4 = sizes[0], k4_of(sizes)
    index = _metadata_bytes(metadata, rows, k4, where)
    valid = _NVIDIA_BYTE_VALID[index]
    if k4 % 8:
        last = index[:, -1]
        valid[:, -1] = _NVIDIA_BYTE_VALID[last | 0x40] & (last < 16)
    if not valid.all():
        row, byte = (int(i) for i in np.argwhere(~valid)[0])
        got = f"0x{int(index[row, byte]):02X} in row {row}, byte {byte} (columns {8 * byte}..{8 * byte + 7})"
        raise FormatError(message(where, "two ascending positions in each group, nibble 4, 8, 9, C, D or E", got))
    index -= 0x44
    if k4 % 8:
        index[:, -1] &= 15
    return encode(decode(CompressedWeight(values, index, sizes), where), where)


def _metadata_bytes(metadata: NDArray[Any], rows: int, k4: int, where: str) -> NDArray[np.uint8]:
    """Return a copy of the metadata as (rows, ceil(k4 / 8)) bytes, its word padding checked and cut off."""
    word = arguments.array(f"{where}: metadata", metadata, FormatError).dtype.itemsize or 1
    expected = (rows, -(-k4 // (8 * word)))
    if metadata.dtype.newbyteorder("=") not in _METADATA_DTYPES or metadata.shape != expected:
        rule = f"uint8, uint16, int16, uint32 or int32 metadata {expected}"
        raise FormatError(message(where, rule, f"{metadata.dtype} {metadata.shape}"))
    little = np.ascontiguousarray(metadata, dtype=metadata.dtype.newbyteorder("<"))
    words = little.view(np.uint8).reshape(rows, expected[1] * word)
    used = -(-k4 // 8)
    if words[:, used:].any():
        raise FormatError(message(where, "zeros after the last group of each row", "a nonzero metadata byte"))
    return words[:, :used].copy()
