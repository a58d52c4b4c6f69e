"""The target's 2:4 format: half the values, and a 2-bit index for each (docs/formats.md).

Of every 4 contiguous input channels e0..e3 two values and two indexes in {0, 1, 2} are stored: the first value is
element i0, the second element i1 + 1. Four indexes make a byte, first in the low bits. Decoding adds: two indexes may
name one element. Source: the target's public description of its 2:4 filter rules (ATC option --sparsity).

Zero means ``== 0``: -0.0 is a zero and comes back as +0.0; NaN is a nonzero and keeps its bits.
"""

from sparse_rt.formats.n2m4.checks import check_index
from sparse_rt.formats.n2m4.groups import group_indexes, k4_of
from sparse_rt.formats.n2m4.weight import (
    N2M4,
    CompressedWeight,
    N2M4Arrays,
    N2M4Format,
    check,
    decode,
    decode_matrix,
    encode,
    encode_matrix,
)

__all__ = [
    "N2M4",
    "CompressedWeight",
    "N2M4Arrays",
    "N2M4Format",
    "check",
    "check_index",
    "decode",
    "decode_matrix",
    "encode",
    "encode_matrix",
    "group_indexes",
    "k4_of",
]
