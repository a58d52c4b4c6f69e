"""What the kernels of the float32 2:4 family have in common for the registry."""

from sparse_rt_kernels.n2m4_f32 import weight
from sparse_rt_kernels.product.f32.call import FloatCalls
from sparse_rt_kernels.product.registry import Kernel
from sparse_rt_kernels.product.weight import Indexed, PackedWeight, Panels

__all__ = ["describe"]

#: See :class:`.registry.Kernel`.
_FEW_CHANNELS = 64
#: Rows below which channels are the lanes, so that nothing is transposed.
_LEAST_TRANSPOSED = 96


def _saved_cycles(m: int, n: int, k: int) -> float:
    """Return what a product saves against a dense engine.

    A dense engine takes 1/32 cycle an element of the product, this kernel 3/5 of that; but its lanes are rows, so that
    x and y are transposed: 1/4 cycle an element of x, 7/16 one of y. With few channels or a short reduction this is
    more than is saved; measured, 512 rows: n = 16 loses at every k, n = 64 up to k = 32.
    """
    transposed = 0.0 if m < _LEAST_TRANSPOSED else m * (7 / 16 * n + k / 4)
    return m * n * k / 80 - transposed


def describe(tier: str, shapes: tuple[tuple[int, int], ...], calls: FloatCalls, *, adds_residual: bool) -> Kernel:
    """Describe a kernel of one or several tile shapes (rows, channels)."""
    tiles = "_".join(f"{rows}x{channels}" for rows, channels in shapes)
    name = f"f32_n2m4_gemm_{tiles}__{tier}"

    def pack_weight(arrays: Indexed) -> PackedWeight[Panels]:
        return weight.pack(name, arrays)

    return Kernel(
        name,
        "f32",
        "n2m4",
        *shapes[0],
        tier,
        pack_weight,
        calls.prepare_matmul,
        calls.prepare_conv,
        adds_residual=adds_residual,
        few_channels=_FEW_CHANNELS,
        saved_cycles=_saved_cycles,
    )
