"""Operators between sparse layers: adds, quantisation, activations, normalisation.

Each ``prepare_*`` function returns a :class:`.launch.Launch` for arrays of one size, to run on the
pool's native threads. They are machine code: under ``NUMBA_DISABLE_JIT`` none of them can run.
"""

from sparse_rt_kernels.between.elementwise.activation import ACTIVATIONS, prepare_activation
from sparse_rt_kernels.between.elementwise.byte_table import prepare_byte_table
from sparse_rt_kernels.between.elementwise.concat import prepare_concat
from sparse_rt_kernels.between.elementwise.dequantise import prepare_dequantise
from sparse_rt_kernels.between.elementwise.dequantise_rows import prepare_dequantise_rows
from sparse_rt_kernels.between.elementwise.float_add import prepare_add
from sparse_rt_kernels.between.elementwise.gelu import prepare_gelu
from sparse_rt_kernels.between.elementwise.layer_norm import Norm, NormOutputs, prepare_layer_norm
from sparse_rt_kernels.between.elementwise.quantise import prepare_quantise
from sparse_rt_kernels.between.elementwise.quantised_add import prepare_quantised_add, sum_of_bytes
from sparse_rt_kernels.between.elementwise.softmax import prepare_softmax
from sparse_rt_kernels.vectors.quantisation import Quantisation
from sparse_rt_kernels.vectors.quantised_rows import QuantisedRows

__all__ = [
    "ACTIVATIONS",
    "Norm",
    "NormOutputs",
    "Quantisation",
    "QuantisedRows",
    "prepare_activation",
    "prepare_add",
    "prepare_byte_table",
    "prepare_concat",
    "prepare_dequantise",
    "prepare_dequantise_rows",
    "prepare_gelu",
    "prepare_layer_norm",
    "prepare_quantise",
    "prepare_quantised_add",
    "prepare_softmax",
    "sum_of_bytes",
]
