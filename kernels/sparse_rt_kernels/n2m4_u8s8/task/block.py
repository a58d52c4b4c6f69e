"""Packed rows times one block of 16 channels, through the epilogue."""

from typing import NamedTuple

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.n2m4_u8s8.task.small_m import multiply_below_8, multiply_below_24, multiply_pair
from sparse_rt_kernels.n2m4_u8s8.tile.rows import Expanded, Octets, expand_index, tile
from sparse_rt_kernels.n2m4_u8s8.tile.rows_to_bytes import Tiles, tiles_to_bytes
from sparse_rt_kernels.n2m4_u8s8.tile.small_m import Chunk, Packed, Panel
from sparse_rt_kernels.product.u8s8.operands import BYTE, Operands, operands_of
from sparse_rt_kernels.product.u8s8.output import Output, finish_block
from sparse_rt_kernels.product.u8s8.sizes import CHANNELS, PANEL_STEP, ROWS, STEP
from sparse_rt_kernels.vectors.registers import REGISTER

__all__ = ["Rows", "Scratch", "Weight", "multiply_block", "multiply_small_m", "packed_rows"]


class Weight(NamedTuple):
    """Addresses and sizes of a packed weight, and which of its channel blocks a task multiplies."""

    values: int
    indexes: int
    n: int
    steps: int
    first_block: int
    last_block: int


class Rows(NamedTuple):
    """Where the activation rows of a block lie.

    8 bytes of row r and step s of tile t at ``address + t * tile + r * row + s * step``; the rows that fill no tile of
    24 are packed at `rest`, (steps, 24, 8).
    """

    address: int
    row: int
    step: int
    tile: int
    rest: int


class Scratch(NamedTuple):
    """Addresses in a thread's scratch and the sizes of its blocks; see :class:`.blocking.rows.Blocking`."""

    rows: int
    steps: int
    panel: int
    controls: int
    sums: int
    table: int


@kernel_jit
def _multiply_rest(rows: int, panel: int, packed: Packed, controls: int, sums: int, resume: int) -> int:
    """Multiply fewer than 24 packed rows with 16 channels: tiles of 16 and 8 with expanded controls, then of fewer."""
    weight = Expanded(packed.values, controls, packed.steps)
    if rows >= 16:
        tile(16, Octets(panel, STEP, PANEL_STEP), weight, sums, resume)
        panel, sums, rows = panel + 16 * STEP, sums + 16 * REGISTER, rows - 16
    if rows >= 8:
        tile(8, Octets(panel, STEP, PANEL_STEP), weight, sums, resume)
        panel, sums, rows = panel + 8 * STEP, sums + 8 * REGISTER, rows - 8
    return multiply_below_8(rows, Panel(panel, PANEL_STEP), packed, sums, resume)


@kernel_jit
def _tiles_to_bytes(
    operands: Operands, channel: int, octets: Octets, weight: Expanded, tiles: Tiles, first: int, out: Output
) -> int:
    """Multiply full tiles and store them as bytes, straight from registers; return how many: none that spans images.

    `tiles` may be as many as there are; where their outputs go is for `out` to say.
    """
    own, stride = operands_of(operands, channel), out.stride
    count: int = tiles.count
    if out.pixels == 0:
        place = out.address + first * stride + channel
        tiles_to_bytes(0, Tiles(count, tiles.x_stride, tiles.sums, tiles.resume, place, stride), octets, weight, own)
        return count
    image = first // out.pixels
    pixel = first - image * out.pixels
    count = min(count, (out.pixels - pixel) // ROWS)
    place = out.address + image * out.image_stride + channel * stride + pixel
    tiles_to_bytes(1, Tiles(count, tiles.x_stride, tiles.sums, tiles.resume, place, stride), octets, weight, own)
    return count


@kernel_jit
def packed_rows(panel: int, rows: int, steps: int) -> Rows:
    """Return where `rows` rows lie that were packed at `panel`, (steps, 24, 8) a tile."""
    tile = steps * PANEL_STEP
    return Rows(panel, STEP, PANEL_STEP, tile, panel + rows // ROWS * tile)


@kernel_jit
def _packed_block(weight: Weight, block: int) -> Packed:
    """Return one block of 16 channels of a weight."""
    values, index = weight.steps * REGISTER, weight.steps * CHANNELS
    return Packed(weight.values + block * values, weight.indexes + block * index, weight.steps, values, index)


@kernel_jit
def multiply_block(
    weight: Weight,
    block: int,
    first: int,
    rows: int,
    x_rows: Rows,
    scratch: Scratch,
    operands: Operands,
    out: Output,
) -> int:
    """Multiply the rows [first, first + rows), which lie at `x_rows`, with one block of 16 channels; store outputs."""
    channel = block * CHANNELS
    channels = min(CHANNELS, weight.n - channel)
    packed = _packed_block(weight, block)
    if rows < ROWS:
        room = Chunk(scratch.steps, scratch.controls)
        multiply_below_24(rows, Panel(x_rows.rest, PANEL_STEP), packed, room, scratch.sums)
        return finish_block(operands, out, channel, channels, scratch.sums, first, rows)
    values, index = packed.values, packed.index
    for step in range(0, weight.steps, scratch.steps):
        steps = min(scratch.steps, weight.steps - step)
        is_last = step + steps == weight.steps
        fused = is_last and out.kind == BYTE and channels == CHANNELS
        expand_index(index, steps, scratch.controls)
        expanded = Expanded(values, scratch.controls, steps)
        row = 0
        while row < rows:
            count = min(ROWS, rows - row)
            x = x_rows.address + row // ROWS * x_rows.tile + step * x_rows.step
            octets = Octets(x, x_rows.row, x_rows.step)
            # Sums outlive their tile only where the reduction is blocked.
            sums = scratch.sums if weight.steps <= scratch.steps else scratch.sums + row * REGISTER
            if fused and count == ROWS:
                tiles = Tiles((rows - row) // ROWS, x_rows.tile, sums, step, 0, 0)
                done = _tiles_to_bytes(operands, channel, octets, expanded, tiles, first + row, out)
                if done:
                    row += done * ROWS
                    continue
            if count == ROWS:
                tile(24, octets, expanded, sums, step)
            else:
                rest = Packed(values, index, steps, 0, 0)
                _multiply_rest(count, x_rows.rest + step * PANEL_STEP, rest, scratch.controls, sums, step)
            if is_last:
                finish_block(operands, out, channel, channels, sums, first + row, count)
            row += count
        values, index = values + steps * REGISTER, index + steps * CHANNELS
    return 0


@kernel_jit
def multiply_small_m(weight: Weight, first: int, rows: int, scratch: Scratch, operands: Operands, out: Output) -> int:
    """Multiply up to 16 packed rows without gaps with all blocks of channels, two at a time, and store the outputs."""
    panel, room = Panel(scratch.panel, rows * STEP), Chunk(scratch.steps, scratch.controls)
    block = weight.first_block
    while block < weight.last_block:
        packed, pair = _packed_block(weight, block), min(2, weight.last_block - block)
        if pair == 2:
            multiply_pair(rows, panel, packed, room, scratch.sums)
        else:
            multiply_below_24(rows, panel, packed, room, scratch.sums)
        for each in range(pair):
            channel = (block + each) * CHANNELS
            sums = scratch.sums + each * ROWS * REGISTER
            finish_block(operands, out, channel, min(CHANNELS, weight.n - channel), sums, first, rows)
        block += pair
    return 0
