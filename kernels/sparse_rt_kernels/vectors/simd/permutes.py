"""Lanes and bytes moved by a vector of places: x86 instructions."""

from typing import Any

import numpy as np

from sparse_rt_kernels.vectors.simd.operation import Array, call_instruction, operation

__all__ = ["multishift", "permute", "permute_bytes", "permute_two", "permute_two_floats", "shuffle_bytes"]


def _shuffle_bytes_meaning(a: Array, control: Array) -> Array:
    lanes, steer = a.reshape(-1, 16), control.view(np.uint8).reshape(-1, 16)
    moved = np.take_along_axis(lanes, (steer & 15).astype(np.intp), axis=1)
    return np.where(steer & 128, 0, moved).astype(a.dtype).ravel()


@operation(_shuffle_bytes_meaning, needs="avx512")
def shuffle_bytes(builder: Any, a: Any, control: Any) -> Any:
    """Return byte ``control & 15`` within each 16 bytes of a, 0 where control's top bit is set: vpshufb.

    Both are <64 x i8>, or <32 x i8>, which AVX2 suffices for.
    """
    name = "llvm.x86.avx512.pshuf.b.512" if a.type.count == 64 else "llvm.x86.avx2.pshuf.b"
    return call_instruction(builder, name, a.type, [a, control])


def _multishift_meaning(control: Array, a: Array) -> Array:
    words = np.repeat(a.view(np.uint64), 8)
    shift = (control.view(np.uint8) & 63).astype(np.uint64)
    rotated = (words >> shift) | (words << ((np.uint64(64) - shift) & np.uint64(63)))
    return rotated.astype(np.uint8)


@operation(_multishift_meaning, needs="avx512vnni")
def multishift(builder: Any, control: Any, a: Any) -> Any:
    """Return 8 bits of a's 64-bit word ``i // 8`` from bit ``control[i] & 63`` on, cyclic: vpmultishiftqb."""
    return call_instruction(builder, "llvm.x86.avx512.pmultishift.qb.512", a.type, [control, a])


@operation(lambda a, control: a[control & 15], needs="avx512")
def permute(builder: Any, a: Any, control: Any) -> Any:
    """Return lane ``control & 15`` of a in each lane: vpermps, <16 x float> by <16 x i32>."""
    return call_instruction(builder, "llvm.x86.avx512.permvar.sf.512", a.type, [a, control])


@operation(lambda a, control: a[control & 63], needs="avx512vnni")
def permute_bytes(builder: Any, a: Any, control: Any) -> Any:
    """Return byte ``control & 63`` of a in each byte: vpermb, both <64 x i8>."""
    return call_instruction(builder, "llvm.x86.avx512.permvar.qi.512", a.type, [a, control])


@operation(lambda a, control, b: np.concatenate([a, b])[control & 127], needs="avx512vnni")
def permute_two(builder: Any, a: Any, control: Any, b: Any) -> Any:
    """Return byte ``control & 127`` of a followed by b in each byte: vpermi2b, all <64 x i8>."""
    return call_instruction(builder, "llvm.x86.avx512.vpermi2var.qi.512", a.type, [a, control, b])


@operation(lambda a, control, b: np.concatenate([a, b])[control & 31], needs="avx512")
def permute_two_floats(builder: Any, a: Any, control: Any, b: Any) -> Any:
    """Return lane ``control & 31`` of a followed by b in each lane: vpermi2ps, <16 x float> by <16 x i32>."""
    return call_instruction(builder, "llvm.x86.avx512.vpermi2var.ps.512", a.type, [a, control, b])
