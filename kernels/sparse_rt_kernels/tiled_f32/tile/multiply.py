"""The register tile of the float32 kernels of any vector width.

Each is a Numba intrinsic on addresses (intp) that returns an intp: Numba may drop a call that returns nothing. The IR
is plain ``<lanes x float>``, with `lanes` a literal int.
"""

from typing import Any, NamedTuple

from llvmlite import ir

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import F32, I64
from sparse_rt_kernels.product.f32.weight import REDUCTION
from sparse_rt_kernels.tiled_f32.weight import STRATEGIES
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.records import fields_of

__all__ = ["Operands", "tile"]


class Operands(NamedTuple):
    """What a tile multiplies, and where its sums go.

    Attributes
    ----------
    panel
        (8 * octets, vectors * lanes) float32, aligned to a register.
    values, indexes
        One tile of channels; see :class:`.weight.Strategy`.
    octets
        Reduction elements / 8.
    sums
        (channels, vectors * lanes) float32, aligned to a register.
    resume
        0 overwrites `sums`, which may then hold anything; otherwise the products are added to it.
    """

    panel: int
    values: int
    indexes: int
    octets: int
    sums: int
    resume: int


@simd.emitter
def tile(context: Any, lanes: Any, vectors: Any, channels: Any, format: Any, operands: Any) -> Any:
    """``sums[c, p] (+)= sum_k panel[k, p] * w[c, k]`` for `channels` channels c and `vectors` registers of lanes p.

    Parameters
    ----------
    lanes, vectors, channels, format
        Literal ints; a number of :data:`.weight.STRATEGIES`.
    operands
        An :class:`Operands`.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        panel, values, indexes, octets, sums, resume = fields_of(builder, Operands, given[-1])
        kind = simd.vector(F32, lanes.literal_value)
        width, depth, register = vectors.literal_value, channels.literal_value, 4 * lanes.literal_value
        slots = [[cgutils.alloca_once(builder, kind) for _ in range(width)] for _ in range(depth)]
        flat = [slot for row in slots for slot in row]
        out = simd.pointer(builder, sums)
        places = [simd.element(builder, out, number * register) for number in range(len(flat))]
        for slot in flat:
            builder.store(ir.Constant(kind, None), slot)
        with builder.if_then(builder.icmp_signed("!=", resume, I64(0))):
            for place, slot in zip(places, flat, strict=True):
                builder.store(simd.load(builder, place, kind, register), slot)
        moving = [cgutils.alloca_once_value(builder, simd.pointer(builder, one)) for one in (panel, values, indexes)]
        weight = STRATEGIES[format.literal_value]
        sizes = (REDUCTION * width * register, weight.slots * depth * 4, weight.index_bytes * depth)
        with cgutils.for_range(builder, octets):
            here = [builder.load(place) for place in moving]
            weight.add_octet(builder, slots, *here)
            for place, pointer, size in zip(moving, here, sizes, strict=True):
                builder.store(simd.element(builder, pointer, size), place)
        for place, slot in zip(places, flat, strict=True):
            simd.store(builder, place, builder.load(slot), register)
        return I64(0)

    return types.intp(lanes, vectors, channels, format, operands), generate
