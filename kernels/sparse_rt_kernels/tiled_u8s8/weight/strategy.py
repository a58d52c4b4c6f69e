"""What sets weights of one format apart from those of another, for the int8 tiles of any vector width."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sparse_rt_kernels.product.weight import PackedWeight, Panels

__all__ = ["Strategy"]


@dataclass(frozen=True)
class Strategy:
    """All that the tile and the task know of a format.

    Bytes of a row reach the multiplication in turns: one broadcast each, which meets 4 bytes of every channel, or 2
    int16 where the CPU has no dot product of bytes.

    Attributes
    ----------
    format
        Its name.
    quads
        Groups of 4 stored values of a channel for a step of 8 reduction elements.
    dot_bytes
        Bytes of a row that one broadcast brings where the CPU has a dot product of bytes; elsewhere it brings 4.
    widens
        Whether a broadcast's bytes become int16, without a dot product, on their way to the multiplication; otherwise
        rows are widened while they are packed.
    registers
        Registers of a turn's expanded operands: the values, and what `choose` reads.
    pack
        ``pack(kernel, weight)`` interleaves a weight by blocks of 16 channels: values (blocks, steps, quads, 16, 4),
        indexes (blocks, steps, 16) or empty.
    controls
        ``controls(builder, lanes, has_dot, index)`` emits what `choose` will read, for each turn of a step: a list of
        registers each. `index` points to the index bytes of the step's first channel.
    choose
        ``choose(builder, x, controls)`` emits which bytes of a broadcast each channel's values meet.
    few_channels
        See :class:`sparse_rt_kernels.product.registry.Kernel`.
    """

    format: str
    quads: int
    dot_bytes: int
    widens: bool
    registers: int
    pack: Callable[[str, Any], PackedWeight[Panels]]
    controls: Callable[[Any, int, int, Any], list[list[Any]]]
    choose: Callable[[Any, Any, list[Any]], Any]
    few_channels: int | None = None

    def is_widened(self, has_dot: int) -> bool:
        """Return whether panels hold int16."""
        return not (has_dot or self.widens)

    def turn_bytes(self, has_dot: int) -> int:
        """Return the bytes of a row that one broadcast brings."""
        return self.dot_bytes if has_dot else 4
