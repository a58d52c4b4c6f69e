"""A register of AVX-512, which most kernels think in: its sizes, and what it can hold.

LLVM splits vectors that are wider than the registers of the CPU that it compiles for.
"""

from typing import Final

from sparse_rt_kernels.jit.llvm import F32, I1, I8, I32, I64
from sparse_rt_kernels.vectors.simd.values import vector

__all__ = ["BYTES", "FLOATS", "LANES", "LONGS", "MASK", "REGISTER", "ROUNDER", "WORDS"]

#: Its bytes.
REGISTER: Final = 64
#: Its lanes of 4 bytes.
LANES: Final = 16
BYTES = vector(I8, REGISTER)
WORDS = vector(I32, LANES)
FLOATS = vector(F32, LANES)
#: Also 8 octets of bytes.
LONGS = vector(I64, REGISTER // 8)
#: One bit for each lane of 4 bytes.
MASK = vector(I1, LANES)
#: Added to a float of magnitude below 2**22 it rounds it half to even, as an integer in the low bits of the sum.
ROUNDER: Final = 1.5 * 2.0**23
