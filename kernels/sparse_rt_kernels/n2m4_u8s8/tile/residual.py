"""Add a residual to a tile of a convolution: what the quantised add of two tensors computes, in the epilogue."""

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from sparse_rt_kernels.jit.llvm import F32, I8, I16, I32
from sparse_rt_kernels.product.registry import Addition
from sparse_rt_kernels.product.u8s8.requantise import Requantiser, narrow_rows
from sparse_rt_kernels.product.u8s8.sizes import CHANNELS, STEP
from sparse_rt_kernels.threads.workspace import aligned_empty
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.quantisation import byte_fields, is_signed
from sparse_rt_kernels.vectors.registers import BYTES, FLOATS, LONGS, ROUNDER, WORDS

__all__ = ["Residual", "addition_record"]

_PIXELS = 8
_ROUNDER_BITS: Final = 0x4B400000
#: A float of which a byte is the low bits is this and the byte.
_BYTE_FLOAT: Final = 2.0**23
_BYTE_BITS: Final = b"\x00\x00\x00\x4b"
_INTEGERS: Final = ("low", "high", "zero_point", "least", "most")
_REALS: Final = ("zero", "residual_zero", "ratio", "residual_ratio", "offset")
_RECORD = np.dtype(
    [
        ("controls", "u1", (_PIXELS, 64)),
        *((name, "i4") for name in _INTEGERS),
        *((name, "f4") for name in _REALS),
    ]
)


def addition_record(addition: Addition, zero_point: int, low: float, high: float) -> NDArray[Any]:
    """Return what :class:`Residual` loads.

    Parameters
    ----------
    addition
        What is added; it may see another zero point in the convolution's bytes than these were made with.
    zero_point
        Of the convolution's bytes, as its epilogue adds it.
    low, high
        Bounds of the convolution's result before that.
    """
    parameters, (_, other) = addition.parameters, addition.dtypes if addition.is_first else addition.dtypes[::-1]
    a_ratio, b_ratio, offset = parameters.quotients
    ratios = (a_ratio, b_ratio) if addition.is_first else (b_ratio, a_ratio)
    y_zero_point, least, most, _ = byte_fields(parameters.y, addition.y_dtype, parameters.low, parameters.high)
    bounds = (_ROUNDER_BITS + int(np.rint(bound)) for bound in (low, high))
    zeros = (zero_point - ROUNDER, -_BYTE_FLOAT - (128 if is_signed(other) else 0))
    # Registers are loaded from it: each should be one cache line.
    record = aligned_empty(_RECORD.itemsize).view(_RECORD)
    record[list(_INTEGERS)] = (*bounds, y_zero_point, least, most)
    record[list(_REALS)] = (*zeros, *ratios, offset)
    record["controls"] = np.tile(np.frombuffer(_BYTE_BITS, np.uint8), 16)
    channels = np.arange(CHANNELS)
    for pixel in range(_PIXELS):
        # Byte of channel c: of the first register, or of the second one.
        record["controls"][0, pixel, ::4] = channels // STEP * 64 + pixel * STEP + channels % STEP
    return record


class Residual:
    """The operands of the add, for all channels alike."""

    def __init__(self, builder: Any, address: Any, is_first: bool) -> None:
        base = self._base = simd.pointer(builder, address)
        self._is_first = is_first
        places: Any = _RECORD.fields

        def field(name: str, kind: Any) -> Any:
            return simd.load(builder, simd.element(builder, base, places[name][1]), kind, 4)

        words = {name: field(name, I32) for name in _INTEGERS}
        self._low, self._high = (simd.broadcast(builder, words[name], CHANNELS) for name in ("low", "high"))
        self._reals = {name: simd.broadcast(builder, field(name, F32), CHANNELS) for name in _REALS}
        self._zero_point = simd.broadcast(builder, builder.trunc(words["zero_point"], I16), 32)
        bounds = (builder.trunc(words[name], I8) for name in ("least", "most"))
        self._least, self._most = (simd.broadcast(builder, bound, 64) for bound in bounds)

    def rows(
        self, builder: Any, requantiser: Requantiser, sums: list[Any], plain: bool, place: Any, stride: Any
    ) -> list[Any]:
        """Return sums of up to 8 neighbouring pixels, the first at `place` of the residual, as rounded int32."""
        mask = ir.Constant(ir.VectorType(ir.IntType(1), _PIXELS), [int(pixel < len(sums)) for pixel in range(_PIXELS)])
        octets = []
        for each in (place, builder.add(place, stride)):
            loaded = simd.load_masked(builder, simd.pointer(builder, each), LONGS, mask, ir.Constant(LONGS, None))
            octets.append(simd.bitcast(builder, loaded, BYTES))
        return [
            self._row(builder, requantiser.scaled(builder, one, plain), self._pixel(builder, octets, pixel))
            for pixel, one in enumerate(sums)
        ]

    def narrow(self, builder: Any, rows: list[Any]) -> Any:
        """Return 4 rows as 64 unsigned bytes, as :meth:`Requantiser.unsigned` does."""
        value = narrow_rows(builder, rows, self._zero_point)
        return simd.smaller_byte(builder, simd.larger_byte(builder, value, self._least), self._most)

    def _row(self, builder: Any, value: Any, residual: Any) -> Any:
        """Round as the convolution's own bytes are rounded, saturate, add the residual, and round again.

        Conversions, sums and bounds of floats share two of four pipes: hence bounds of integers, which the bits of
        such floats are as good as.
        """
        reals = self._reals
        value = simd.fadd(builder, value, simd.constant(F32, [ROUNDER] * CHANNELS))
        bits = simd.larger_int(builder, simd.bitcast(builder, value, WORDS), self._low)
        value = simd.bitcast(builder, simd.smaller_int(builder, bits, self._high), FLOATS)
        value = simd.fadd(builder, value, reals["zero"])
        a, b = (value, reals["ratio"]), (residual, reals["residual_ratio"])
        if not self._is_first:
            a, b = b, a
        total = simd.fma(builder, a[0], a[1], simd.fma(builder, b[0], b[1], reals["offset"]))
        return simd.nearest_int(builder, total)

    def _pixel(self, builder: Any, octets: list[Any], pixel: int) -> Any:
        """Return the 16 channels of a pixel as floats: bytes become the low bits of 2**23, which goes again.

        Bytes that the mask leaves out stay as they are in the control.
        """
        control = simd.load(builder, simd.element(builder, self._base, 64 * pixel), BYTES)
        picked = simd.permute_two(builder, octets[0], control, octets[1])
        lowest = ir.Constant(ir.VectorType(ir.IntType(1), 64), [int(byte % 4 == 0) for byte in range(64)])
        floats = simd.bitcast(builder, builder.select(lowest, picked, control), FLOATS)
        return simd.fadd(builder, floats, self._reals["residual_zero"])
