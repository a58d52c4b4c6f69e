"""Kernels alone, without models or sessions: operands of a shape for any kernel of the registry."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.product import registry
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.product.registry import Kernel
from sparse_rt_kernels.product.weight import CHANNEL_MULTIPLE, Dense, Indexed, PackedWeight
from sparse_rt_kernels.threads.pool import ThreadPool

__all__ = ["conv_call", "kernels", "matmul_call", "shapes"]


def shapes(name: str) -> dict[str, Any]:
    """Return the shapes of ``benchmarks/shapes/<name>.json``."""
    found: dict[str, Any] = json.loads((Path(__file__).parent / "shapes" / f"{name}.json").read_text())
    return found


def kernels(dtype: str) -> list[Kernel]:
    """Return the kernels for `dtype` that may be chosen here (``SPARSE_RT_TIER`` counts), the best tier first.

    Portable loops are left out where a tier has something better.
    """
    supported = isa.supported_tiers()
    found = [kernel for kernel in registry.kernels() if kernel.dtype == dtype and kernel.isa in supported]
    return [kernel for kernel in found if kernel.isa != "generic"] or found


def _weight(kernel: Kernel, n: int, k: int, rng: np.random.Generator) -> PackedWeight[Any]:
    """Return a random packed weight, every stored value nonzero."""
    stored = k if kernel.format == "dense" else k // 2
    if kernel.dtype == "f32":
        values = rng.standard_normal((n, stored), np.float32)
    else:
        values = rng.integers(1, 128, (n, stored)).astype(np.int8)
    bits = rng.integers(0, 3, (4, n, -(-k // 8)))
    index = bits[0] | bits[1] << 2 | bits[2] << 4 | bits[3] << 6
    if k % 8:
        index[:, -1] &= 15
    return kernel.pack_weight(Dense(values) if kernel.format == "dense" else Indexed(values, index.astype(np.uint8)))


def _operands(kernel: Kernel, shape: tuple[int, ...], n: int, rng: np.random.Generator) -> tuple[Any, Any]:
    if kernel.dtype == "f32":
        return rng.standard_normal(shape, np.float32), FloatEpilogue(np.zeros(n, np.float32))
    scale = np.full(n, 1e-3, np.float32)
    epilogue = IntegerEpilogue(np.zeros(n, np.int32), scale, np.zeros(n, np.float32), zero_point=128)
    return rng.integers(0, 256, shape).astype(np.uint8), epilogue


def _out(kernel: Kernel, shape: tuple[int, ...]) -> Any:
    return np.empty(shape, np.float32 if kernel.dtype == "f32" else np.uint8)


def matmul_call(kernel: Kernel, m: int, n: int, k: int, threads: int = 1) -> Callable[[], None]:
    """Return a call of `kernel` for x (m, k) and a weight (n, k), uint8 or float32 in and out."""
    rng = np.random.default_rng(0)
    packed = _weight(kernel, n, -(-k // 4) * 4, rng)
    x, epilogue = _operands(kernel, (m, k), n, rng)
    out, pool = _out(kernel, (m, n)), ThreadPool(threads)
    return lambda: kernel.matmul(x, packed, epilogue, out, pool)


def conv_call(kernel: Kernel, layer: dict[str, int], batch: int = 1, threads: int = 1) -> Callable[[], None]:
    """Return a call of `kernel` for a layer of ``resnet50_conv.json``, padded so that strides alone shrink it."""
    rng = np.random.default_rng(0)
    size, pad = layer["size"], layer["kernel"] // 2
    geometry = ConvGeometry(
        batch,
        layer["channels"],
        size,
        size,
        layer["out_channels"],
        (layer["kernel"],) * 2,
        (layer["stride"],) * 2,
        pads=(pad,) * 4,
    )
    packed = _weight(
        kernel, geometry.out_channels, math.prod(geometry.kernel) * geometry.padded_channels(CHANNEL_MULTIPLE), rng
    )
    x, epilogue = _operands(kernel, (batch, geometry.channels, size, size), geometry.out_channels, rng)
    out = _out(kernel, (batch, geometry.out_channels, geometry.out_height, geometry.out_width))
    pool = ThreadPool(threads)
    return lambda: kernel.conv(x, geometry, packed, epilogue, out, pool)
