"""Formats of weights: how each is stored, to the bit (docs/formats.md).

A format is a file of its own and a line in :data:`FORMATS`.
"""

import math
from typing import Any

import numpy as np

from sparse_rt.formats.dense import DENSE, MatrixWeight
from sparse_rt.formats.n2m4 import (
    N2M4,
    CompressedWeight,
    check,
    check_index,
    decode,
    decode_matrix,
    encode,
    encode_matrix,
    group_indexes,
)
from sparse_rt.formats.nvidia import from_nvidia_metadata, to_nvidia_metadata
from sparse_rt.formats.shape import checked_shape, reduction_length
from sparse_rt.formats.values import DTYPES
from sparse_rt.formats.weight import Format, SparseWeight, Weight, WeightFormat
from sparse_rt.sparsity import Pattern

__all__ = [
    "DENSE",
    "DTYPES",
    "FORMATS",
    "CompressedWeight",
    "Format",
    "MatrixWeight",
    "N2M4",
    "SparseWeight",
    "Weight",
    "WeightFormat",
    "by_name",
    "check",
    "check_index",
    "checked_shape",
    "decode",
    "decode_matrix",
    "encode",
    "encode_matrix",
    "format_of",
    "formats_for",
    "from_nvidia_metadata",
    "group_indexes",
    "no_smaller",
    "reason_for",
    "reason_for_all",
    "reduction_length",
    "to_nvidia_metadata",
]

FORMATS: dict[str, Format] = {N2M4.name: N2M4}
"""What sparse weights are stored in, by name; those of the most specific patterns first."""


def by_name(name: str) -> WeightFormat:
    """Return the format that kernels call by that name, sparse or dense.

    Raises
    ------
    KeyError
        There is none.
    """
    return DENSE if name == DENSE.name else FORMATS[name]


def format_of(pattern: Pattern) -> Format | None:
    """Return the format that stores the weights of a pattern; None if none does."""
    return next((found for found in FORMATS.values() if found.stores(pattern)), None)


def formats_for(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Format, ...]:
    """Return the formats that take a weight of that shape and dtype, those of the most specific patterns first."""
    return tuple(found for found in FORMATS.values() if reason_for(found, shape, dtype) is None)


def reason_for(format: Format, shape: tuple[int, ...], dtype: np.dtype[Any]) -> str | None:
    """Return why a format takes no weight of that shape and dtype, whatever its values; None if it does.

    Parameters
    ----------
    format
        One of :data:`FORMATS`.
    shape
        (n, c) or (n, c, *kernel), without zeros.
    dtype
        Of the weight.
    """
    if dtype not in format.dtypes:
        return f"the weight is {dtype}, which is not stored as {format.title}"
    if shape[1] < format.least_channels:
        return f"{shape[1]} input channels, {format.title} needs more than {format.least_channels - 1}"
    dense, stored = math.prod(shape) * dtype.itemsize, format.nbytes(shape, dtype)
    return no_smaller(stored, dense) if stored is not None and stored >= dense else None


def reason_for_all(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str | None:
    """Return why the first of the formats takes no weight of that shape and dtype; None if any of them does."""
    reasons = [reason_for(format, shape, dtype) for format in FORMATS.values()]
    return None if None in reasons else reasons[0]


def no_smaller(stored: int, dense: int) -> str:
    """Return the reason of a weight that would not become smaller; both in bytes."""
    return f"compressed it would take {stored} bytes, dense it takes {dense}"
