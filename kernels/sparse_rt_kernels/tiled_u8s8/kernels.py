"""The int8 kernels of any vector width, 2:4 and dense: argument plumbing, and the split of the work over threads."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.geometry import ConvGeometry
from sparse_rt_kernels.n2m4_u8s8.blocking import images_per_group, partition
from sparse_rt_kernels.n2m4_u8s8.clipping import clip_bounds
from sparse_rt_kernels.n2m4_u8s8.finish import BYTE, FLOAT32, INT32
from sparse_rt_kernels.n2m4_u8s8.panels import stage_rows
from sparse_rt_kernels.n2m4_u8s8.staging import staging_of
from sparse_rt_kernels.parallel import ThreadPool
from sparse_rt_kernels.registry import Kernel, PackedWeight, prepared_conv, prepared_matmul
from sparse_rt_kernels.tiled_u8s8.blocking import blocking
from sparse_rt_kernels.tiled_u8s8.finishing import Epilogue, Output
from sparse_rt_kernels.tiled_u8s8.product import Rows, Scratch, Share, Weight, product
from sparse_rt_kernels.tiled_u8s8.shape import PANEL_ROWS, Shape
from sparse_rt_kernels.tiled_u8s8.weight import CHANNELS, STEP, pack
from sparse_rt_kernels.workspace import address_of, scratch_address

__all__ = ["kernel_for"]

#: What turns int8 into uint8, in each of 8 bytes; as a signed integer, which is what kernels take.
_SIGN_BITS = int.from_bytes(b"\x80" * 8, "little", signed=True)
#: By dtype character.
_KINDS = {np.dtype(np.int32).char: INT32, np.dtype(np.float32).char: FLOAT32, "B": BYTE, "b": BYTE}
#: Bytes of a staged image that are worth a task of their own.
_STAGED_BYTES = 32 * 1024


def _flip(x: NDArray[Any]) -> int:
    return _SIGN_BITS if x.dtype.char == "b" else 0


@dataclass(frozen=True)
class _Family:
    """The functions of one kernel."""

    name: str
    form: str
    shape: Shape

    def pack_weight(self, values: NDArray[np.int8], index: NDArray[np.uint8]) -> PackedWeight:
        return pack(self.name, values, index, self.form)

    def matmul(
        self,
        x: NDArray[Any],
        packed: PackedWeight,
        epilogue: FloatEpilogue | IntegerEpilogue,
        out: NDArray[Any],
        pool: ThreadPool,
    ) -> None:
        finish = self._epilogue(epilogue, packed, x, out)
        if not out.size:
            return
        m, columns = x.shape
        rows = Rows(address_of(x), x.strides[0], columns, _flip(x), 0, 0, 0, 0, 0, 0)
        self._run(m, packed, rows, Output(address_of(out), out.itemsize, out.strides[0], 0, 0), finish, pool)

    def conv(
        self,
        x: NDArray[Any],
        geometry: ConvGeometry,
        packed: PackedWeight,
        epilogue: FloatEpilogue | IntegerEpilogue,
        out: NDArray[Any],
        pool: ThreadPool,
    ) -> None:
        finish = self._epilogue(epilogue, packed, x, out)
        if not out.size:
            return
        staging = staging_of(geometry)
        group = images_per_group(staging.image_bytes, geometry.batch)
        # The last step may reach 4 bytes beyond the last pixel.
        staged = scratch_address("tiled u8s8 staged", group * staging.image_bytes + STEP)
        height, width = geometry.out_height, geometry.out_width
        pixels, plane = height * width, height * width * out.itemsize
        strides = (staging.row_stride, staging.pixel_stride, staging.image_bytes)
        rows = Rows(staged, 0, 0, 0, staging.words_address, height, width, *strides)
        x_address, out_address = address_of(x), address_of(out)
        for first in range(0, geometry.batch, group):
            images = min(group, geometry.batch - first)
            source = x_address + first * geometry.channels * geometry.height * geometry.width
            self._stage(source, images, geometry, _flip(x), staged, pool)
            target = Output(out_address + first * packed.n * plane, out.itemsize, plane, pixels, packed.n * plane)
            self._run(images * pixels, packed, rows, target, finish, pool)

    def _epilogue(
        self, epilogue: FloatEpilogue | IntegerEpilogue, packed: PackedWeight, x: NDArray[Any], out: NDArray[Any]
    ) -> Epilogue:
        if not isinstance(epilogue, IntegerEpilogue):
            raise TypeError(f"{self.name}: expected an IntegerEpilogue, got {type(epilogue).__name__}.")
        low, high = clip_bounds(epilogue, out.dtype)
        offset, scale, bias = epilogue.addresses
        kind, shift = _KINDS[out.dtype.char], 128 if x.dtype.char == "b" else 0
        # int(): a NumPy integer of another width would be another signature, and compile the kernel again.
        zero_point = int(epilogue.zero_point)
        return Epilogue(kind, offset, packed.addresses[2], shift, scale, bias, low, high, zero_point)

    @staticmethod
    def _stage(source: int, images: int, geometry: ConvGeometry, flip: int, staged: int, pool: ThreadPool) -> None:
        """Turn images into padded, channels-last ones, in as many tasks as their bytes are worth."""
        staging = staging_of(geometry)
        rows = images * staging.padded_height
        tasks = max(1, min(rows, pool.threads, images * staging.image_bytes // _STAGED_BYTES))
        arguments = (
            geometry.channels,
            staging.source_height,
            staging.source_width,
            *geometry.pads[:2],
            *geometry.input_stride,
            staging.padded_height,
            staging.padded_width,
            staging.depth,
            (int(geometry.pad_value) ^ flip) & 255,
            flip,
            staged,
        )

        def task(number: int) -> None:
            stage_rows(rows * number // tasks, rows * (number + 1) // tasks, source, *arguments)

        pool.run(task, tasks)

    def _run(self, m: int, packed: PackedWeight, rows: Rows, out: Output, finish: Epilogue, pool: ThreadPool) -> None:
        """Compute the product of `m` rows, in one task or several."""
        count, steps = packed.values.shape[:2]
        values, index, _ = packed.addresses
        size = (packed.values.nbytes // count, packed.index.nbytes // count)
        weight = Weight(values, index, packed.n, steps, *size)
        parts = partition(m, packed.n, pool.threads)
        blocks = blocking(self.shape, steps, -(-m // parts.row_parts))
        panels = -(-m // PANEL_ROWS)
        run = product(self.shape)

        def task(number: int) -> None:
            row, column = divmod(number, parts.channel_parts)
            share = Share(
                panels * row // parts.row_parts * PANEL_ROWS,
                min(m, panels * (row + 1) // parts.row_parts * PANEL_ROWS),
                count * column // parts.channel_parts,
                count * (column + 1) // parts.channel_parts,
            )
            base = scratch_address("tiled u8s8", blocks.end)
            places = (base + offset for offset in blocks[2:-1])
            run(share, weight, rows, out, finish, Scratch(blocks.rows, blocks.steps, *places))

        pool.run(task, parts.row_parts * parts.channel_parts)


def kernel_for(tier: str, form: str, lanes: int, has_dot: bool) -> Kernel:
    """Return the kernel for one tier and form of weights.

    Parameters
    ----------
    tier
        Of :mod:`sparse_rt_kernels.isa`.
    form
        ``"n2m4"`` or ``"dense"``.
    lanes, has_dot
        Of :class:`.shape.Shape`.
    """
    shape = Shape(lanes, int(has_dot), int(form == "n2m4"))
    family = _Family(f"u8s8_{form}_gemm_{shape.rows}x{min(lanes, CHANNELS)}__{tier}", form, shape)
    return Kernel(
        family.name,
        "u8s8",
        shape.rows,
        lanes,
        tier,
        family.pack_weight,
        prepared_matmul(family.matmul),
        prepared_conv(family.conv),
        form,
    )
