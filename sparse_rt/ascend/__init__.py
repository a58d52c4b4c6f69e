"""The target's 2:4 hardware, emulated to the bit: instructions and memory layouts (docs/formats.md).

Weights here are int8 matrices (n, k) and their two halves: values (n, k / 2) and index (n, k / 8).
"""

from sparse_rt.ascend.fractal import C0, INDEX_C0, ROWS, from_fractal, from_fractal_z, to_fractal, to_fractal_z
from sparse_rt.ascend.instructions import (
    MAX_EXTENT,
    compress_weight,
    decompress_weight,
    load_data_with_sparse,
    mmad_with_sparse,
)

__all__ = [
    "compress_weight",
    "decompress_weight",
    "mmad_with_sparse",
    "load_data_with_sparse",
    "to_fractal",
    "from_fractal",
    "to_fractal_z",
    "from_fractal_z",
    "C0",
    "INDEX_C0",
    "ROWS",
    "MAX_EXTENT",
]
