"""What sets weights of one format apart from those of another, for the tiles of any vector width."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sparse_rt_kernels.product.epilogue import FloatEpilogue
from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.product.weight import PackedWeight, Panels
from sparse_rt_kernels.threads.launch import Launch

__all__ = ["Strategy"]


@dataclass(frozen=True)
class Strategy:
    """All that the tile and the task know of a format.

    Attributes
    ----------
    format
        Its name.
    slots
        Stored values of a channel for 8 reduction elements.
    index_bytes
        Bytes of a channel that say where those belong.
    pack
        ``pack(kernel, weight, channels)`` interleaves a weight by tiles of so many channels: values (tiles, octets,
        slots, channels), indexes (tiles, octets, channels) or empty.
    add_octet
        ``add_octet(builder, slots, rows, values, index)`` emits the products of 8 reduction elements: `slots`
        are accumulators, (channels, registers of lanes); `rows` points to 8 rows of the panel, `values` and `index` to
        what one tile of channels stores for them.
    add_skipping
        ``add_skipping(panel, values, indexes, sums)`` does the same for a panel that holds inf or NaN, and skips stored
        zeros: `values` and `indexes` are addresses. None if there are no zeros to skip.
    prepare_direct
        Prepares convolutions that need no panels, and returns None for others; None if all need them.
    few_channels
        See :class:`sparse_rt_kernels.product.registry.Kernel`.
    """

    format: str
    slots: int
    index_bytes: int
    pack: Callable[[str, Any, int], PackedWeight[Panels]]
    add_octet: Callable[[Any, list[list[Any]], Any, Any, Any], None]
    add_skipping: Any
    prepare_direct: Callable[[ConvGeometry, PackedWeight[Panels], FloatEpilogue, int], Launch | None] | None = None
    few_channels: int | None = None
