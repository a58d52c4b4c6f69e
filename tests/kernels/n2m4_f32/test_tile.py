"""The machine code of the register tiles of the float32 2:4 family: nothing is spilled."""

import itertools
import re

import numba
import pytest
from numba.core import types
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.n2m4_f32.blocking import panels as blocking
from sparse_rt_kernels.n2m4_f32.task import row_lanes
from sparse_rt_kernels.n2m4_f32.task.channel_lanes import rows_tile
from sparse_rt_kernels.n2m4_f32.tile import channel_lanes as tile_of_channels
from sparse_rt_kernels.n2m4_f32.tile.row_lanes import Operands
from sparse_rt_kernels.product.f32.ending import Ending

simd_only = pytest.mark.skipif("avx512" not in isa.supported_tiers(), reason="needs the avx512 kernels")


def records():
    """What Numba takes the records of a register tile for."""
    integers, floats = types.intp, types.float32
    ending = types.NamedTuple([integers, floats, floats, *[integers] * 5], Ending)
    return types.NamedUniTuple(integers, len(Operands._fields), Operands), ending


@simd_only
def test_the_register_tile_keeps_its_accumulators_in_registers():
    """In the loop of every tile each FMA reads x from memory, and no vector is spilled."""
    signature = (types.intp, *records())
    compiled = numba.njit(signature, nogil=True, error_model="numpy")(row_lanes.register_tile.py_func)
    (assembly,) = compiled.inspect_asm().values()
    blocks = re.split(r"^\.?\w+:.*$", assembly, flags=re.MULTILINE)
    loops = {block.count("vfmadd"): block for block in blocks if block.count("vfmadd") >= 16}
    assert {16 * vectors for vectors in range(1, blocking.MAX_VECTORS + 1)} <= set(loops)
    for vectors in range(1, blocking.MAX_VECTORS + 1):
        loop = loops[16 * vectors]
        assert len(re.findall(r"vfmadd\w+ps\s+-?\d*\(%r\w+(?:,%r\w+(?:,\d)?)?\), %zmm", loop)) == 16 * vectors
        assert not re.findall(r"zmm.*\(%r[sb]p\)|\(%r[sb]p\).*zmm", loop)


@simd_only
def test_the_register_tile_with_rows_beside_spills_nothing():
    signature = (types.intp, types.intp, *records(), types.intp, types.intp)
    compiled = numba.njit(signature, nogil=True, error_model="numpy")(row_lanes.register_tile_and_rest.py_func)
    (assembly,) = compiled.inspect_asm().values()
    blocks = re.split(r"^\.?\w+:.*$", assembly, flags=re.MULTILINE)
    loops = {block.count("vfmadd"): block for block in blocks if block.count("vfmadd") >= 16}
    for vectors, rest in itertools.product((3, 4), (1, 4)):
        loop = loops[16 * vectors + rest]
        assert len(re.findall(r"vfmadd\w+ps\s+-?\d*\(%r\w+(?:,%r\w+(?:,\d)?)?\), %zmm", loop)) == 16 * vectors
        assert not re.findall(r"zmm.*\(%r[sb]p\)|\(%r[sb]p\).*zmm", loop)


@simd_only
def test_the_tallest_tile_keeps_its_accumulators_in_registers():
    """A row of the inner loop is a load, a permutation and an FMA; nothing is stored. Some take 4 octets a turn."""
    operands = types.NamedUniTuple(types.intp, len(tile_of_channels.Operands._fields), tile_of_channels.Operands)
    compiled = numba.njit((types.intp, operands), nogil=True, error_model="numpy")(rows_tile.py_func)
    (assembly,) = compiled.inspect_asm().values()
    blocks = re.split(r"^\.?\w+:.*$", assembly, flags=re.MULTILINE)
    loops = {block.count("vfmadd"): block for block in blocks if re.search(r"vfmadd.*zmm", block)}
    for products in (25, 20, 4 * 16, 4 * 12):
        assert len(re.findall(r"vperm(?:d|ps)\s.*%zmm", loops[products])) == products
        assert not re.findall(r"zmm\d+, -?\d*\(%r[sb]p\)", loops[products])
