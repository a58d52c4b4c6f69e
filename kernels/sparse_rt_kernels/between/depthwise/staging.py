"""Planes into their layout in scratch memory, and flat rows of results back to planes."""

from typing import Any, Final

from sparse_rt_kernels.between.depthwise.layout import BLOCK, Layout
from sparse_rt_kernels.between.depthwise.moves import Grid, copy_rows, fill_words, separate_pairs
from sparse_rt_kernels.cpu.caches import level1_bytes
from sparse_rt_kernels.jit.compilation import kernel_jit

__all__ = ["FIELDS", "begin_planes", "flat_address", "planes_in", "planes_out", "staging_record", "staged_address"]

#: Fields of a record, all of them int64, in bytes where a number counts memory. `group` planes are staged before the
#: first of them is computed: what was just stored is slow to load in other pieces. They lie from `staged` on in scratch
#: memory, their results from `flat` on. Where columns are separated (`across` parts), a padded plane comes first.
FIELDS: Final = (
    *(
        "group",
        "itemsize",
        "source_plane",
        "source_row",
        "source_first",
        "inside_rows",
        "inside_bytes",
        "pad_row",
        "left",
    ),
    *("phases", "part_bytes", "pitch", "flip", "pad_word", "across", "items", "lines", "staged", "staged_bytes"),
    *("out_plane", "out_rows", "out_row", "flat", "flat_row", "flat_bytes", "together"),
)
#: Planes staged together, at most.
_MOST_PLANES: Final = 16


def _aligned(nbytes: int) -> int:
    return -(-nbytes // 64) * 64


def staging_record(
    layout: Layout, itemsize: int, out_itemsize: int, pad: int, flip: int
) -> tuple[tuple[int, ...], int]:
    """Return the values of :data:`FIELDS`, and the bytes of scratch memory that a task needs.

    `pad` is the bit pattern that padding reads, 4 bytes; `flip` is xor-ed to each byte of the source.
    """
    g = layout.geometry
    first_row, first_column, rows, columns = layout.inside
    raw = _aligned((layout.items + 32) * itemsize) if layout.is_separated else 0
    staged = _aligned(layout.items * itemsize)
    flat = _aligned(layout.blocks * BLOCK * out_itemsize)
    reach = _aligned(layout.reach * itemsize)
    group = max(1, min(_MOST_PLANES, level1_bytes() // 2 // (staged + layout.together * flat)))
    filled = raw + group * staged + reach
    values = (
        *(group, itemsize, g.height * g.width * itemsize, g.width * itemsize),
        *((first_row * g.width + first_column) * itemsize, rows, columns * itemsize),
        *(first_row + g.pads[0], (first_column + g.pads[1]) * itemsize),
        *(layout.phases, layout.part_rows * layout.pitch * itemsize, layout.pitch * itemsize, flip, pad),
        *(g.strides[1] if layout.is_separated else 1, layout.items, filled // 64, raw, staged),
        *(g.out_height * g.out_width * out_itemsize, g.out_height, g.out_width * out_itemsize),
        *(filled, layout.row * out_itemsize, flat, layout.together),
    )
    return values, filled + group * layout.together * flat


@kernel_jit
def begin_planes(a: Any, scratch: int) -> int:
    """Fill what planes do not overwrite, once a task: padding."""
    return fill_words(scratch, a.lines, a.pad_word)


@kernel_jit
def staged_address(a: Any, scratch: int, slot: int) -> int:
    """Return where plane number `slot` of a group lies."""
    address: int = scratch + a.staged + slot * a.staged_bytes
    return address


@kernel_jit
def flat_address(a: Any, scratch: int, slot: int) -> int:
    """Return where the results of plane number `slot` of a group lie."""
    address: int = scratch + a.flat + slot * a.together * a.flat_bytes
    return address


@kernel_jit
def _separate(a: Any, source: int, target: int) -> int:
    """Deal the columns of a padded plane out to as many parts as the column stride has columns."""
    part_items = a.items // a.across
    part_bytes = part_items * a.itemsize
    if a.across == 2 and a.itemsize == 4:
        # The last block of even items reaches into the odd ones, the last of those beyond the plane.
        return separate_pairs(source, target, target + part_bytes, (part_items + 15) // 16)
    for column in range(a.across):
        place, item = source + column * a.itemsize, target + column * part_bytes
        columns, items = Grid(place, 0, a.across * a.itemsize), Grid(item, 0, a.itemsize)
        copy_rows(columns, items, 1, part_items, a.itemsize, 0)
    return 0


@kernel_jit
def _padded(a: Any, source: int, target: int, planes: int) -> int:
    """Bring planes between their padding, rows dealt out to their parts."""
    if a.inside_bytes == 0:
        return 0
    for phase in range(a.phases):
        skipped = (phase - a.pad_row) % a.phases
        rows = (a.inside_rows - skipped + a.phases - 1) // a.phases
        begin = source + a.source_first + skipped * a.source_row
        place = target + phase * a.part_bytes + (a.pad_row + skipped) // a.phases * a.pitch + a.left
        stride = a.phases * a.source_row
        if rows > 0:
            read, written = Grid(begin, a.source_plane, stride), Grid(place, a.staged_bytes, a.pitch)
            copy_rows(read, written, planes, rows, a.inside_bytes, a.flip)
    return 0


@kernel_jit
def planes_in(a: Any, source: int, planes: int, scratch: int) -> int:
    """Bring a group of planes into their layout."""
    if a.across == 1:
        return _padded(a, source, scratch + a.staged, planes)
    for plane in range(planes):
        _padded(a, source + plane * a.source_plane, scratch, 1)
        _separate(a, scratch, staged_address(a, scratch, plane))
    return 0


@kernel_jit
def planes_out(a: Any, scratch: int, planes: int, out: int) -> int:
    """Copy the rows of a group's results to the output."""
    for first in range(a.together):
        rows = (a.out_rows - first + a.together - 1) // a.together
        source, target = scratch + a.flat + first * a.flat_bytes, out + first * a.out_row
        flat_plane, pitch = a.together * a.flat_bytes, a.together * a.out_row
        if rows > 0:
            read, written = Grid(source, flat_plane, a.flat_row), Grid(target, a.out_plane, pitch)
            copy_rows(read, written, planes, rows, a.out_row, 0)
    return 0
