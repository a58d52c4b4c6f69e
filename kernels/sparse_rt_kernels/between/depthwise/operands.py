"""What the emitters of depthwise convolutions are called with: numbers in kernels, IR values where code is emitted."""

from typing import Any, NamedTuple

__all__ = ["Block", "Bytes", "Floats", "Planes", "TapTable"]


class Planes(NamedTuple):
    """Planes that are convolved one like the other.

    Attributes
    ----------
    count
        How many.
    source, source_plane, out, out_plane
        First bytes of the first plane and of its results, each followed by the bytes from plane to plane.
    """

    count: Any
    source: Any
    source_plane: Any
    out: Any
    out_plane: Any


class Block(NamedTuple):
    """Flat pixels of one plane in its :class:`layout.Layout`.

    Attributes
    ----------
    source
        The plane.
    blocks
        Of 64 pixels each.
    out, pitch
        Results, and bytes from each row of those that are computed together to the next.
    """

    source: Any
    blocks: Any
    out: Any
    pitch: Any


class TapTable(NamedTuple):
    """What a sum runs over.

    Attributes
    ----------
    count
        How many taps there are, where they are not unrolled.
    offsets
        Address of the bytes (int64) from the block to what each tap reads: of the input rows' taps where rows are
        unrolled, in that order, else of all taps.
    weights
        Address of the taps' weights.
    """

    count: Any
    offsets: Any
    weights: Any


class Floats(NamedTuple):
    """The epilogue of floats, ``clip(sum + bias)``; NaN stays NaN.

    Attributes
    ----------
    bias
        float32 of a channel, or the address of those of several.
    low, high
        float32 clip bounds.
    """

    bias: Any
    low: Any
    high: Any


class Bytes(NamedTuple):
    """The epilogue of integers; see :class:`.epilogue.IntegerEpilogue`.

    Attributes
    ----------
    kind
        Of :mod:`finish`.
    offset, scale, bias
        Of a channel: an integer and two float32; or the addresses of those of several, the first ones int32.
    low, high
        float32 clip bounds; for bytes within what `zero_point` leaves of the output's range.
    zero_point
        Of bytes.
    """

    kind: Any
    offset: Any
    scale: Any
    bias: Any
    low: Any
    high: Any
    zero_point: Any
