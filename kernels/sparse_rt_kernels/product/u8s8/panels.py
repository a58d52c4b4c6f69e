"""Fill a thread's packed panels with activation rows, and a channels-last image with planes."""

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.n2m4_u8s8.weight import ROWS, STEP
from sparse_rt_kernels.product.u8s8 import moves

__all__ = ["FEW_ROWS", "pack_few_rows", "pack_image_rows", "pack_matrix_rows", "pack_plane_pixels", "stage_rows"]

_PANEL_STEP = ROWS * STEP
#: Up to so many rows lie side by side without gaps: where they are few, gaps would push them out of L1.
FEW_ROWS = 16
#: Panels that are packed from planes together: 3 cache lines of each plane.
_PANELS_OF_LINES = 8


@kernel_jit
def _pack_chunk(table: int, rows: int, offset: int, panel: int, flip: int) -> int:
    """Pack 8 steps that are contiguous in each row; the table goes on to a multiple of 8 rows."""
    for row in range(0, rows, 8):
        moves.octets_of_rows(table + row * 8, offset, panel + row * STEP, flip)
    return 0


@kernel_jit
def _fill_table(table: int, rows: int, first: int, stride: int) -> int:
    """Fill in the addresses of equally spaced rows, the last one repeated up to a multiple of 8."""
    for row in range((rows + 7) // 8 * 8):
        moves.put_octet(table + row * 8, first + min(row, rows - 1) * stride)
    return 0


@kernel_jit
def _partial_octet(address: int, count: int) -> int:
    """Return `count` bytes, 0 to 8, as an integer, the others zero."""
    if count >= STEP:
        return moves.octet(address)
    value = 0
    for byte in range(count):
        value |= moves.byte(address + byte) << (8 * byte)
    return value


@kernel_jit
def pack_few_rows(x: int, stride: int, columns: int, rows: int, steps: int, panel: int, flip: int) -> int:
    """Pack `rows` rows of a row-major byte matrix into one panel (steps, rows, 8); the rest counts as zero.

    Parameters are those of :func:`pack_matrix_rows`.
    """
    whole = min(columns // STEP, steps)
    for row in range(rows):
        source, place = x + row * stride, panel + row * STEP
        for step in range(whole):
            moves.put_octet(place + step * rows * STEP, moves.octet(source + step * STEP) ^ flip)
        for step in range(whole, steps):
            value = _partial_octet(source + step * STEP, max(0, columns - step * STEP))
            moves.put_octet(place + step * rows * STEP, value ^ flip)
    return 0


@kernel_jit
def pack_matrix_rows(
    x: int, stride: int, columns: int, rows: int, steps: int, table: int, panel: int, flip: int
) -> int:
    """Pack `rows` rows of a row-major byte matrix into panels (steps, 24, 8); beyond its columns it counts as zero.

    Parameters
    ----------
    x, stride, columns
        Address of the first row, bytes from row to row, and how many are read of each.
    table
        Scratch for row addresses.
    panel
        ceil(rows / 24) panels, 64-byte aligned.
    flip
        See :func:`moves.octets_of_rows`.
    """
    whole_chunks = min(columns // (8 * STEP), steps // 8)
    for first in range(0, rows, ROWS):
        count = min(ROWS, rows - first)
        source = x + first * stride
        _fill_table(table, count, source, stride)
        for chunk in range(whole_chunks):
            _pack_chunk(table, count, chunk * 64, panel + chunk * 8 * _PANEL_STEP, flip)
        for step in range(8 * whole_chunks, steps):
            present = max(0, columns - step * STEP)
            for row in range(count):
                value = _partial_octet(source + row * stride + step * STEP, present)
                moves.put_octet(panel + step * _PANEL_STEP + row * STEP, value ^ flip)
        panel += steps * _PANEL_STEP
    return 0


@kernel_jit
def pack_image_rows(table: int, rows: int, words: int, steps: int, panel: int) -> int:
    """Pack rows of a channels-last image into panels (steps, 24, 8) through two tables.

    Parameters
    ----------
    table
        (rows rounded up to 8,) int64: address of each output pixel's first input pixel.
    words
        (2 * steps,) int32, ascending: offset from there of each 4 reduction elements.
    """
    for first in range(0, rows, ROWS):
        count = min(ROWS, rows - first)
        pixels = table + first * 8
        step = 0
        while step < steps:
            offset = moves.word(words + step * 8)
            # Offsets ascend by 4 or more, so that 15 of them that rise by 60 are contiguous.
            if step + 8 <= steps and moves.word(words + step * 8 + 60) - offset == 60:
                _pack_chunk(pixels, count, offset, panel + step * _PANEL_STEP, 0)
                step += 8
                continue
            following = moves.word(words + step * 8 + 4)
            place = panel + step * _PANEL_STEP
            if following - offset == 4:
                for row in range(count):
                    moves.put_octet(place + row * STEP, moves.octet(moves.octet(pixels + row * 8) + offset))
            else:
                for row in range(count):
                    pixel = moves.octet(pixels + row * 8)
                    low, high = moves.word(pixel + offset), moves.word(pixel + following)
                    moves.put_octet(place + row * STEP, low | high << 32)
            step += 1
        panel += steps * _PANEL_STEP
    return 0


@kernel_jit
def pack_plane_pixels(
    x: int, channels: int, pixels: int, first: int, rows: int, steps: int, panel: int, flip: int
) -> int:
    """Pack pixels [first, first + rows) of planes, (channels, pixels) bytes at `x`, into panels (steps, 24, 8)."""
    panels = (rows + ROWS - 1) // ROWS
    for group in range(0, panels, _PANELS_OF_LINES):
        last = min(panels, group + _PANELS_OF_LINES)
        for step in range(steps):
            present = min(STEP, channels - step * STEP)
            source = x + step * STEP * pixels + first
            for number in range(group, last):
                pixel = number * ROWS
                place = panel + (number * steps + step) * _PANEL_STEP
                # Reading on into the next plane is harmless, beyond the last one it is not.
                readable = (present - 1) * pixels + pixels - first - pixel
                readable = pixels - first - pixel if step == steps - 1 else readable
                moves.octets_of_planes(source + pixel, pixels, present, readable, place, flip)
    return 0


@kernel_jit
def _turn_row(source: int, plane: int, channels: int, pixels: int, out: int, depth: int, flip: int) -> int:
    """Turn one row of `channels` planes into `pixels` x `depth` bytes, depth = channels rounded up to 4."""
    if depth == 4:
        for column in range(0, pixels, 16):
            count = min(16, pixels - column)
            moves.interleave_planes(source + column, plane, channels, count, out + column * 4, flip)
        return 0
    # A cache line of each plane at a time.
    for line in range(0, pixels, 64):
        for channel in range(0, channels, 16):
            present = min(16, channels - channel)
            column, end = line, min(line + 64, pixels)
            while column < end:
                address, target = source + channel * plane + column, out + column * depth + channel
                if present == 16 and end - column >= 32:
                    moves.transpose_bytes_32(address, plane, target, depth, flip)
                    column += 32
                else:
                    count = min(16, end - column)
                    moves.transpose_bytes(address, plane, present, count, target, depth, flip)
                    column += 16
    return 0


@kernel_jit
def _spread_row(
    source: int, plane: int, channels: int, count: int, out: int, depth: int, spread: int, flip: int
) -> int:
    """Like `_turn_row`, but leave `spread` - 1 pixels as they are between neighbours."""
    for column in range(count):
        for channel in range(channels):
            value = moves.byte(source + channel * plane + column) ^ (flip & 255)
            moves.fill_bytes(out + column * spread * depth + channel, 1, value)
    return 0


@kernel_jit
def stage_rows(
    first: int,
    last: int,
    x: int,
    channels: int,
    height: int,
    width: int,
    top: int,
    left: int,
    row_spread: int,
    column_spread: int,
    padded_height: int,
    padded_width: int,
    depth: int,
    pad: int,
    flip: int,
    out: int,
) -> int:
    """Turn padded rows [first, last) of (batch, channels, height, width) bytes into a padded channels-last image.

    Rows are counted over the batch: batch * padded_height of them, each (padded_width, depth) bytes of `out`, `depth`
    being the channels rounded up to 4. Padding and zero-stuffing (`row_spread` and `column_spread` - 1 between
    neighbours) read `pad`, a byte of the shifted domain. `top` and `left` may be negative: they crop.
    """
    row_bytes = padded_width * depth
    # Of a source row, the columns whose place lies in [0, padded_width).
    from_column = (max(0, -left) + column_spread - 1) // column_spread
    to_column = min(width, (padded_width - left + column_spread - 1) // column_spread)
    count = to_column - from_column
    start = left + from_column * column_spread
    filled = count == padded_width and column_spread == 1 and channels == depth
    for padded_row in range(first, last):
        image = padded_row // padded_height
        place = padded_row - image * padded_height - top
        target = out + padded_row * row_bytes
        row = place // row_spread
        outside = place < 0 or row >= height or row * row_spread != place or count <= 0
        if outside or not filled:
            moves.fill_bytes(target, row_bytes, pad)
        if outside:
            continue
        plane = height * width
        source = x + image * channels * plane + row * width + from_column
        if column_spread == 1:
            _turn_row(source, plane, channels, count, target + start * depth, depth, flip)
        else:
            _spread_row(source, plane, channels, count, target + start * depth, depth, column_spread, flip)
    return 0
