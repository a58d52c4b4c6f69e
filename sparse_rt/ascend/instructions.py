"""The target's instructions: 2:4 weight compression, `load_data_with_sparse`, `mmad_with_sparse`.

`mmad_with_sparse` selects activations by index, as the hardware does, and so shares no code with the decoder that it
judges. Source: the public AscendC pages of LoadDataWithSparse and MmadWithSparse.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparse_rt import arguments, formats
from sparse_rt.ascend.fractal import C0, INDEX_C0, ROWS, require_int8_matrix
from sparse_rt.boundary import public
from sparse_rt.errors import FormatError, message

__all__ = ["MAX_EXTENT", "compress_weight", "decompress_weight", "mmad_with_sparse", "load_data_with_sparse"]

MAX_EXTENT = 4095
"""Largest m, n and k of one `mmad_with_sparse`."""

_FRACTAL_BYTES = ROWS * C0
_INDEX_FRACTAL_BYTES = ROWS * INDEX_C0
_SOURCE_ALIGNMENT = 32
_MAX_REPEAT = 255
_MAX_STRIDE = 65535


@public
def compress_weight(w: NDArray[np.int8], *, prune: bool = False) -> tuple[NDArray[np.int8], NDArray[np.uint8]]:
    """Return the stored half and the packed 2-bit index of a 2:4 weight.

    Parameters
    ----------
    w
        (n, k) int8; k a multiple of 4.
    prune
        Keep the two largest |w| of each group instead of refusing more than two nonzeros. (The hardware's own
        compressor takes the first two.)

    Returns
    -------
    values : (n, k / 2) int8
    index : (n, ceil(k / 8)) uint8
        Where k is not a multiple of 8, the last byte's high nibble is zero.

    Raises
    ------
    PatternError
        If a group holds more than two nonzeros.
    FormatError
        If `w` is not an int8 matrix, or k is not a multiple of 4.
    """
    where = "compress_weight"
    require_int8_matrix(w, f"{where}: w")
    arguments.flag(f"{where}: prune", prune, FormatError)
    if w.shape[1] % 4:
        remedy = "Pad the input channels with zeros."
        raise FormatError(message(f"{where}: w {w.shape}", "k to be a multiple of 4", f"k = {w.shape[1]}", remedy))
    compressed = formats.encode(w, "compress_weight: w", prune=prune)
    return compressed.values, compressed.index


@public
def decompress_weight(values: NDArray[np.int8], index: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Return the dense (n, k) int8 weight of values (n, k / 2) and index (n, ceil(k / 8)).

    Values whose indexes name one element are added.

    Raises
    ------
    FormatError
        If the arrays do not fit each other, an index is 3, or a sum overflows int8.
    """
    require_int8_matrix(values, "decompress_weight: values")
    return formats.decode_matrix(values, index, "decompress_weight")


@public
def mmad_with_sparse(
    a: NDArray[np.int8],
    values: NDArray[np.int8],
    index: NDArray[np.uint8],
    c: NDArray[np.int32] | None = None,
) -> NDArray[np.int32]:
    """Multiply activations by a stored weight: ``y[i, o] = c[i, o] + sum_j a[i, p(o, j)] * values[o, j]``.

    p(o, j) = 4 * (j // 2) + index(o, j) + j % 2 is the activation that the index selects: of each four, two.

    Parameters
    ----------
    a
        (m, k) int8, k a multiple of 4.
    values
        (n, k / 2) int8.
    index
        (n, ceil(k / 8)) uint8.
    c
        (m, n) int32 to accumulate onto, as the hardware does over blocks of k; None starts from zeros.

    Returns
    -------
    ndarray of int32, (m, n)
        Exact. If m, n or k is zero the instruction does nothing: a copy of `c`, or zeros.

    Raises
    ------
    FormatError
        If shapes or dtypes do not fit, an index is 3, m, n or k exceeds `MAX_EXTENT`, or a sum with `c` leaves int32
        (without `c` it cannot: |y| <= 4095 / 2 * 2**14 < 2**25).
    """
    where = "mmad_with_sparse"
    require_int8_matrix(a, f"{where}: a")
    require_int8_matrix(values, f"{where}: values")
    (m, k), n = a.shape, len(values)
    if k % 4 or 2 * values.shape[1] != k:
        got = f"a {a.shape} with values {values.shape}"
        raise FormatError(message(where, "a (m, k) and values (n, k / 2), k a multiple of 4", got))
    if max(m, n, k) > MAX_EXTENT:
        remedy = "Split the product; blocks of k accumulate through c."
        raise FormatError(message(where, f"m, n and k in [0, {MAX_EXTENT}]", f"m={m}, n={n}, k={k}", remedy))
    formats.check_index(index, n, k, where)
    if c is not None:
        arguments.array(f"{where}: c", c, FormatError)
    if c is not None and (c.dtype != np.int32 or c.shape != (m, n)):
        raise FormatError(message(where, f"c {(m, n)} int32", f"{c.shape} {c.dtype}"))
    start = np.zeros((m, n), np.int32) if c is None else c.copy()
    if 0 in (m, n, k):
        return start
    total = start + _selected_products(a, values, _selected_columns(index, k))
    limits = np.iinfo(np.int32)
    if total.min() < limits.min or total.max() > limits.max:
        raise FormatError(message(where, "sums within int32", f"{total.min()}..{total.max()}"))
    return total.astype(np.int32)


def _selected_columns(index: NDArray[np.uint8], k: int) -> NDArray[np.int64]:
    """Return p(o, j), (n, k / 2): the activation that each stored value meets."""
    fields = np.stack([index >> shift & 3 for shift in (0, 2, 4, 6)], axis=-1).reshape(len(index), -1)
    j = np.arange(k // 2)
    return 4 * (j // 2) + j % 2 + fields[:, : k // 2]


def _selected_products(a: NDArray[np.int8], values: NDArray[np.int8], columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the (m, n) sums in int64. float64 holds them exactly (< 2**25) and multiplies fast."""
    by_channel = np.ascontiguousarray(a.T, dtype=np.float64)
    products = np.empty((len(values), len(a)))
    for row, selected in enumerate(columns):
        np.matmul(values[row].astype(np.float64), by_channel[selected], out=products[row])
    return products.T.astype(np.int64)


@public
def load_data_with_sparse(
    dst: NDArray[Any],
    dst_index: NDArray[Any],
    src: NDArray[Any],
    src_index: NDArray[Any],
    *,
    repeat: int,
    start_index: int = 0,
    src_stride: int = 0,
    dst_gap: int = 0,
    dst_offset: int = 0,
    src_offset: int = 0,
    index_offset: int = 0,
) -> None:
    """Move stored fractals and their indexes from the emulated L1 buffer to L0B.

    Repeat r moves 512 bytes (16 x 32 int8) from fractal ``start_index + r * src_stride`` of `src`, and the 128 bytes of
    index of that fractal, to fractal ``r * (1 + dst_gap)`` of `dst`. An index lies at its values' address >> 2.

    Parameters
    ----------
    dst, src
        One-dimensional int8 or uint8 buffers of stored weight; `dst` is written.
    dst_index, src_index
        One-dimensional int8 or uint8 buffers of index; `dst_index` is written, from byte ``dst_offset >> 2`` on.
    repeat
        0..255; 0 moves nothing.
    start_index, src_stride, dst_gap
        In fractals, 0..65535. The stride's documented default 0 reads the same fractal again and again.
    dst_offset, src_offset, index_offset
        Byte offsets into `dst`, `src` and `src_index`; multiples of 512, 32 and 32.

    Raises
    ------
    FormatError
        If a limit, an alignment or the end of a buffer is not kept; nothing has been moved then.
    """
    where = "load_data_with_sparse"
    _require_range(
        where,
        repeat=(repeat, _MAX_REPEAT),
        start_index=(start_index, _MAX_STRIDE),
        src_stride=(src_stride, _MAX_STRIDE),
        dst_gap=(dst_gap, _MAX_STRIDE),
    )
    _require_alignment(where, "dst_offset", dst_offset, _FRACTAL_BYTES)
    _require_alignment(where, "src_offset", src_offset, _SOURCE_ALIGNMENT)
    _require_alignment(where, "index_offset", index_offset, _SOURCE_ALIGNMENT)
    _require_buffers(where, dst=dst, dst_index=dst_index, src=src, src_index=src_index)
    if repeat == 0:
        return
    reads = [start_index + r * src_stride for r in range(repeat)]
    writes = [r * (1 + dst_gap) for r in range(repeat)]
    values = _Fractals(src, src_offset, dst, dst_offset, _FRACTAL_BYTES)
    indexes = _Fractals(src_index, index_offset, dst_index, dst_offset >> 2, _INDEX_FRACTAL_BYTES)
    values.check(f"{where}: src", f"{where}: dst", reads[-1], writes[-1])
    indexes.check(f"{where}: src_index", f"{where}: dst_index", reads[-1], writes[-1])
    for fractals in (values, indexes):
        for read, write in zip(reads, writes, strict=True):
            fractals.move(read, write)


class _Fractals(NamedTuple):
    """Where fractals of one size lie in a source, and where they are moved to in a target."""

    source: NDArray[Any]
    source_offset: int
    target: NDArray[Any]
    target_offset: int
    size: int

    def check(self, source_name: str, target_name: str, last_read: int, last_write: int) -> None:
        """Raise FormatError unless both buffers hold the last fractals."""
        _require_bytes(source_name, self.source, self.source_offset + (last_read + 1) * self.size)
        _require_bytes(target_name, self.target, self.target_offset + (last_write + 1) * self.size)

    def move(self, read: int, write: int) -> None:
        """Move fractal `read` of the source to fractal `write` of the target."""
        first, to = self.source_offset + read * self.size, self.target_offset + write * self.size
        self.target[to : to + self.size] = self.source[first : first + self.size].view(self.target.dtype)


def _require_buffers(where: str, **buffers: NDArray[Any]) -> None:
    for name, buffer in buffers.items():
        arguments.array(f"{where}: {name}", buffer, FormatError)
        if buffer.ndim != 1 or buffer.dtype not in (np.int8, np.uint8):
            raise FormatError(message(f"{where}: {name}", "a flat buffer of bytes", f"{buffer.dtype} {buffer.shape}"))


def _require_range(where: str, **limits: tuple[int, int]) -> None:
    for name, (value, most) in limits.items():
        if arguments.integer(f"{where}: {name}", value, 0, FormatError) > most:
            raise FormatError(message(where, f"{name} in [0, {most}]", str(value)))


def _require_alignment(where: str, name: str, offset: int, alignment: int) -> None:
    if arguments.integer(f"{where}: {name}", offset, 0, FormatError) % alignment:
        raise FormatError(message(where, f"{name} to be a multiple of {alignment} bytes", str(offset)))


def _require_bytes(where: str, buffer: NDArray[Any], needed: int) -> None:
    if len(buffer) < needed:
        raise FormatError(message(where, f"at least {needed} bytes", str(len(buffer))))
