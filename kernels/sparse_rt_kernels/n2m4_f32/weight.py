"""The packed form of a float32 2:4 weight."""

from sparse_rt_kernels.n2m4_f32.blocking.panels import CHANNELS
from sparse_rt_kernels.product.f32.weight import REDUCTION, interleaved, octets_of
from sparse_rt_kernels.product.weight import Indexed, PackedWeight, Panels

__all__ = ["pack"]


def pack(kernel: str, weight: Indexed) -> PackedWeight[Panels]:
    """Interleave a canonical weight by tiles of 4 output channels.

    Parameters
    ----------
    kernel
        Name of the kernel that will read it.
    weight
        Its values are float32.

    Returns
    -------
    PackedWeight
        ``values`` is (tiles, k8, 4, 4) float32: tile, 8 reduction elements, nonzero, channel. ``index`` is
        (tiles, k8, 4) uint8: the byte of each channel. tiles = ceil(n / 4) and k8 = max(1, ceil(k / 8)); what is added
        are zeros whose index bits are zero. 4.25 bytes a nonzero: 53.1 % of the dense weight if n % 4 = k % 8 = 0.
    """
    n, half = weight.values.shape
    octets = octets_of(2 * half)
    values = interleaved(weight.values, CHANNELS, octets, REDUCTION // 2)
    indexes = interleaved(weight.indexes, CHANNELS, octets, 1)[:, :, 0]
    return PackedWeight(kernel, n, 2 * half, Panels(values, indexes))
