"""Independent, slow, obvious definitions that judge sparse_rt. Imports nothing of ours.

Weights are dense and output-channel-first, (n, c) or (n, c, *kernel), unless a function says otherwise. Integers are
computed in int64 and floats in float64, and only then brought to the type in question.
"""

import itertools
import math

import numpy as np

# The published table: which of (e0, e1, e2, e3) are nonzero -> (i0, i1). i0 names e[i0]; i1 names e[i1 + 1].
INDEX_TABLE = {
    (1, 1, 0, 0): (0b00, 0b00),
    (1, 0, 1, 0): (0b00, 0b01),
    (1, 0, 0, 1): (0b00, 0b10),
    (0, 1, 1, 0): (0b01, 0b01),
    (0, 1, 0, 1): (0b01, 0b10),
    (0, 0, 1, 1): (0b10, 0b10),
    (1, 0, 0, 0): (0b00, 0b00),
    (0, 1, 0, 0): (0b01, 0b00),
    (0, 0, 1, 0): (0b10, 0b00),
    (0, 0, 0, 1): (0b00, 0b10),
    (0, 0, 0, 0): (0b00, 0b00),
}


# --- 2:4 patterns ------------------------------------------------------------------------------------------------


def first_violation(w, n=2, m=4):
    """First (row, kernel position, first channel, last channel, nonzeros) with more than n nonzeros, or None.

    Order: output channel, then kernel position (row-major), then channel group.
    """
    rows, channels, *kernel = w.shape
    for row in range(rows):
        for position in itertools.product(*(range(size) for size in kernel)):
            for first in range(0, channels, m):
                group = [w[(row, c, *position)] for c in range(first, min(first + m, channels))]
                count = sum(1 for value in group if value != 0)
                if count > n:
                    return row, position, first, min(first + m, channels) - 1, count
    return None


def holds(w, n=2, m=4):
    return first_violation(w, n, m) is None


def magnitude_mask(w, n=2, m=4):
    """Keep the n largest |w| of each m consecutive input channels; of equal ones the earlier."""
    rows, channels, *kernel = w.shape
    mask = np.zeros(w.shape, bool)
    for row in range(rows):
        for position in itertools.product(*(range(size) for size in kernel)):
            for first in range(0, channels, m):
                group = range(first, min(first + m, channels))
                ranked = sorted(group, key=lambda c: -abs(float(w[(row, c, *position)])))  # a stable sort
                for c in ranked[:n]:
                    mask[(row, c, *position)] = True
    return mask


# --- the 2-bit index ---------------------------------------------------------------------------------------------


def weight_matrix(w):
    """(n, c, *kernel) -> (n, prod(kernel) * ceil4(c)); k runs over (kernel..., channel), channels zero-padded."""
    rows, channels, *kernel = w.shape
    padded = -(-channels // 4) * 4
    out = np.zeros((rows, math.prod(kernel) * padded), w.dtype)
    for row in range(rows):
        k = 0
        for position in itertools.product(*(range(size) for size in kernel)):
            for c in range(padded):
                if c < channels:
                    out[row, k] = w[(row, c, *position)]
                k += 1
    return out


def encode_matrix(matrix):
    """(n, k) holding 2:4, k a multiple of 4 -> values (n, k/2), index (n, ceil(k/8)) uint8."""
    rows, k = matrix.shape
    values = np.zeros((rows, k // 2), matrix.dtype)
    index = np.zeros((rows, -(-k // 8)), np.uint8)
    for row in range(rows):
        for g in range(k // 4):
            group = matrix[row, 4 * g : 4 * g + 4]
            pattern = tuple(int(value != 0) for value in group)
            i0, i1 = INDEX_TABLE[pattern]
            nonzeros = [value for value in group if value != 0]
            if pattern == (0, 0, 0, 1):
                nonzeros = [0, *nonzeros]
            for slot, value in enumerate(nonzeros):
                values[row, 2 * g + slot] = value
            index[row, g // 2] |= (i0 | i1 << 2) << (4 * (g % 2))
    return values, index


def decode_matrix(values, index):
    """values (n, k/2), index (n, ceil(k/8)) -> (n, k). Two indexes that name one element add their values."""
    rows, half = values.shape
    out = np.zeros((rows, 2 * half), values.dtype)
    for row in range(rows):
        for j in range(half):
            two_bits = (int(index[row, j // 4]) >> (2 * (j % 4))) & 3
            if two_bits == 3:
                raise ValueError(f"index 3 at row {row}, value {j}")
            element = 4 * (j // 2) + two_bits + j % 2
            out[row, element] += values[row, j]
    return out


def random_weight(rng, shape, dtype=np.int8, low=-128, high=128):
    """A 2:4 weight (n, c, *kernel) with 0, 1 or 2 nonzeros in each group, any position, signed."""
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        w = rng.integers(max(low, info.min), min(high, info.max + 1), shape).astype(dtype)
    else:
        w = rng.standard_normal(shape).astype(dtype)
    rows, channels, *kernel = shape
    for row in range(rows):
        for position in itertools.product(*(range(size) for size in kernel)):
            for first in range(0, channels, 4):
                width = min(4, channels - first)
                keep = rng.permutation(width)[: rng.integers(0, 3)]
                for c in range(width):
                    if c not in keep:
                        w[(row, first + c, *position)] = 0
    return w


def prune_2_4(w):
    """The weight with its 2 largest |w| of each 4 channels kept; fast enough for large shapes."""
    rows, channels, *kernel = w.shape
    padded = -(-channels // 4) * 4
    full = np.zeros((rows, padded, *kernel), w.dtype)
    full[:, :channels] = w
    groups = full.reshape(rows, padded // 4, 4, *kernel)
    rank = np.argsort(np.argsort(-np.abs(groups.astype(np.float64)), axis=2, kind="stable"), axis=2)
    return np.where(rank < 2, groups, 0).astype(w.dtype).reshape(full.shape)[:, :channels]


# --- arithmetic --------------------------------------------------------------------------------------------------


def wide(array):
    """The array in int64 or float64."""
    return array.astype(np.int64 if np.issubdtype(array.dtype, np.integer) else np.float64)


def wrap_int32(array):
    """int64 -> int32, modulo 2**32."""
    return (array & 0xFFFFFFFF).astype(np.uint32).view(np.int32)


def matmul(x, w):
    """x (m, k), w (n, k) -> x @ w.T (m, n) in int64 or float64."""
    return np.einsum("mk,nk->mn", wide(x), wide(w))


def matmul_int32(x, w):
    """x (m, k), w (n, k), integers -> (m, n) int32, wrapping."""
    return wrap_int32(matmul(x, w))


def matmul_loops(x, w):
    """The definition of matmul, in Python's own numbers; judges `matmul` itself on small shapes."""
    return [
        [sum(x[i, j].item() * w[o, j].item() for j in range(x.shape[1])) for o in range(len(w))] for i in range(len(x))
    ]


def conv(x, w, strides=None, pads=None, dilations=None, pad_value=0, group=1):
    """x (b, c, *spatial), w (n, c / group, *kernel) -> (b, n, *out) in int64 or float64; any number of axes.

    pads are ONNX's: all beginnings, then all ends; negative ones crop. Reads outside x give `pad_value`.
    """
    axes = x.ndim - 2
    strides = strides or (1,) * axes
    dilations = dilations or (1,) * axes
    pads = pads or (0,) * (2 * axes)
    spatial, kernel = x.shape[2:], w.shape[2:]
    out = [
        (spatial[a] + pads[a] + pads[a + axes] - (kernel[a] - 1) * dilations[a] - 1) // strides[a] + 1
        for a in range(axes)
    ]
    x, w = wide(x), wide(w)
    y = np.zeros((len(x), len(w), *out), x.dtype if x.dtype == w.dtype else np.float64)
    n_group, c_group = len(w) // group, x.shape[1] // group
    for position in itertools.product(*(range(size) for size in kernel)):
        seen = np.full((*x.shape[:2], *out), pad_value, x.dtype)
        for pixel in itertools.product(*(range(size) for size in out)):
            source = [pixel[a] * strides[a] - pads[a] + position[a] * dilations[a] for a in range(axes)]
            if all(0 <= source[a] < spatial[a] for a in range(axes)):
                seen[(slice(None), slice(None), *pixel)] = x[(slice(None), slice(None), *source)]
        for g in range(group):
            rows, channels = slice(g * n_group, (g + 1) * n_group), slice(g * c_group, (g + 1) * c_group)
            y[:, rows] += np.einsum("bc...,nc->bn...", seen[:, channels], w[(rows, slice(None), *position)])
    return y


def conv1d(x, w, stride=1, pads=(0, 0), dilation=1, pad_value=0):
    """x (b, c, length), w (n, c, kernel) -> (b, n, out)."""
    return conv(x, w, (stride,), pads, (dilation,), pad_value)


def conv2d(x, w, strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1), pad_value=0):
    """x (b, c, h, w), w (n, c, r, s) -> (b, n, oh, ow); pads (top, left, bottom, right)."""
    return conv(x, w, strides, pads, dilations, pad_value)


def conv_transpose(x, w, strides=None, pads=None, dilations=None, output_padding=None):
    """x (b, c, *spatial), w (c, n, *kernel), ONNX's own layout -> (b, n, *out): every input pixel is scattered."""
    axes = x.ndim - 2
    strides = strides or (1,) * axes
    dilations = dilations or (1,) * axes
    pads = pads or (0,) * (2 * axes)
    output_padding = output_padding or (0,) * axes
    spatial, kernel = x.shape[2:], w.shape[2:]
    x, w = wide(x), wide(w)
    full = [strides[a] * (spatial[a] - 1) + (kernel[a] - 1) * dilations[a] + 1 + output_padding[a] for a in range(axes)]
    y = np.zeros((len(x), w.shape[1], *full), x.dtype if x.dtype == w.dtype else np.float64)
    for position in itertools.product(*(range(size) for size in kernel)):
        for pixel in itertools.product(*(range(size) for size in spatial)):
            target = [pixel[a] * strides[a] + position[a] * dilations[a] for a in range(axes)]
            source = x[(slice(None), slice(None), *pixel)]
            y[(slice(None), slice(None), *target)] += source @ w[(slice(None), slice(None), *position)]
    crop = [slice(pads[a], full[a] - pads[a + axes]) for a in range(axes)]
    return y[(slice(None), slice(None), *crop)]


def requantise(acc, offset, scale, bias, zero_point, dtype, low=-np.inf, high=np.inf):
    """acc (..., n) -> dtype: t = float32(acc + offset) * scale + bias, clip, round half to even, + zp, saturate.

    Product and sum are each rounded to float32. offset, scale and bias are (n,).
    """
    total = wrap_int32(acc.astype(np.int64) + np.asarray(offset, np.int64)).astype(np.float32)
    t = total * np.asarray(scale, np.float32)
    t = t + np.asarray(bias, np.float32)
    t = np.minimum(np.maximum(t, np.float32(low)), np.float32(high))
    info = np.iinfo(dtype)
    out = np.empty(t.shape, dtype)
    for where, value in np.ndenumerate(t):
        limited = min(max(float(value), -(2.0**40)), 2.0**40)  # so that round() gets no infinity
        out[where] = min(max(round(limited) + int(zero_point), info.min), info.max)  # round(): half to even
    return out


def float_bound(x, w, c=1.0):
    """c (k + 1) eps (|X| |W|^T), elementwise, for x (m, k) and w (n, k) float32: how far y may be from y_ref."""
    return c * (x.shape[1] + 1) * np.finfo(np.float32).eps * matmul(np.abs(x), np.abs(w))
