"""Formats of sparse weights: how a weight is stored, to the bit (docs/formats.md)."""

from sparse_rt.formats.n2m4 import (
    DTYPES,
    CompressedWeight,
    check,
    check_index,
    checked_shape,
    compressed_nbytes,
    decode,
    decode_matrix,
    encode,
    encode_if_it_holds,
    encode_matrix,
    from_nvidia_metadata,
    group_indexes,
    to_nvidia_metadata,
)

__all__ = [
    "DTYPES",
    "CompressedWeight",
    "check",
    "check_index",
    "checked_shape",
    "compressed_nbytes",
    "decode",
    "decode_matrix",
    "encode",
    "encode_if_it_holds",
    "encode_matrix",
    "from_nvidia_metadata",
    "group_indexes",
    "to_nvidia_metadata",
]
