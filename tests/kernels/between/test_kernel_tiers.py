"""What is prepared for a tier names no instructions of a higher one: the tasks that are chosen, and what they emit."""

import inspect

import numpy as np
import pytest
from llvmlite import ir
from numba import config
from numba.core import types
from numba.core.registry import cpu_target
from sparse_rt_kernels.between import attention, elementwise, pooling
from sparse_rt_kernels.between.depthwise import (
    float_micro,
    float_permuted_micro,
    float_rows_micro,
    integer_micro,
    permuted_micro,
    prepare_depthwise,
)
from sparse_rt_kernels.between.depthwise.operands import Block, Bytes, Floats, Planes, TapTable
from sparse_rt_kernels.between.elementwise import activation, byte_table, gelu, quantise, quantised_add
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.product.quantised_add import QuantisedAdd
from sparse_rt_kernels.threads import launch
from sparse_rt_kernels.vectors.quantisation import ByteFields, ByteTensor, Quantisation
from sparse_rt_kernels.vectors.simd import Operation

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="native tasks are machine code")

TIERS = isa.supported_tiers()
BYTE, FLOAT = np.dtype(np.uint8), np.dtype(np.float32)
ONE = Quantisation(1.0, 3)
TENSOR = ByteTensor(ONE, BYTE)
#: The tier that each task needs whose code knows no other.
NEEDS = {"permuted": "avx512vnni", "float_rows": "avx512", "float_permuted": "avx512"}


def norm():
    return elementwise.Norm(np.ones(8, np.float32), np.zeros(8, np.float32), 1e-5)


def depthwise(x_dtype, kernel, strides, tier):
    geometry = ConvGeometry(1, 4, 28, 28, 4, kernel, strides, pads=(1, 1, 1, 1))
    weight = np.ones((4, *kernel), np.int8 if x_dtype == BYTE else np.float32)
    ones = np.ones(4, np.float32)
    epilogue = FloatEpilogue(ones) if x_dtype == FLOAT else IntegerEpilogue(ones.astype(np.int32), ones, ones)
    return prepare_depthwise(geometry, x_dtype, x_dtype, weight, epilogue, 1, tier)


#: What prepares each kind of call for a tier.
KINDS = {
    "activation": lambda tier: elementwise.prepare_activation("tanh", 9, 1, TENSOR, tier),
    "byte table": lambda tier: elementwise.prepare_byte_table(9, np.zeros(256, np.uint8), 1, tier),
    "concat": lambda tier: elementwise.prepare_concat(1, [4], [np.zeros(256, np.uint8)], 1, tier),
    "gelu": lambda tier: elementwise.prepare_gelu(1, 8, 1, tier=tier),
    "gelu to bytes": lambda tier: elementwise.prepare_gelu(1, 8, 1, y=TENSOR, tier=tier),
    "global average": lambda tier: pooling.prepare_quantised_global_average_pool(2, 9, TENSOR, TENSOR, 1, tier),
    "layer norm": lambda tier: elementwise.prepare_layer_norm(1, norm(), 1, tier=tier),
    "quantise": lambda tier: elementwise.prepare_quantise(9, BYTE, ONE, 1, tier=tier),
    "quantised add": lambda tier: elementwise.prepare_quantised_add(
        9, BYTE, BYTE, BYTE, QuantisedAdd(ONE, ONE, ONE), 1, tier
    ),
    **{
        f"depthwise {x_dtype} {kernel} {strides}": lambda tier, given=(x_dtype, kernel, strides): depthwise(
            *given, tier
        )
        for x_dtype in (BYTE, FLOAT)
        for kernel, strides in [
            ((3, 3), (1, 1)),
            ((3, 3), (2, 2)),
            ((3, 3), (2, 1)),
            ((5, 5), (2, 2)),
            ((2, 7), (1, 1)),
        ]
    },
}


@pytest.fixture
def tasks(monkeypatch):
    """The functions of all tasks that are prepared, which are not compiled."""
    found = []

    def noted(function):
        found.append(function)
        return 0

    monkeypatch.setattr(launch, "kernel_task", noted)
    return found


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("kind", KINDS)
def test_tasks_are_made_for_the_tier(kind, tier, tasks):
    KINDS[kind](tier)
    assert tasks
    for task in tasks:
        held = inspect.getclosurevars(task).nonlocals
        needed = NEEDS.get(task.__module__.rpartition(".")[2])
        assert needed is not None or "level" in held or task.__module__.endswith("depthwise.floats"), task
        assert held.get("level", isa.number_of(tier)) == isa.number_of(tier)
        assert needed is None or isa.number_of(needed) >= isa.number_of(tier), "another way was to be chosen"


def test_no_tier_is_that_of_the_cpu(tasks):
    for prepare in KINDS.values():
        prepare(None)
    levels = {inspect.getclosurevars(task).nonlocals.get("level", 0) for task in tasks}
    assert levels <= {0, isa.number_of(TIERS[0])}


@pytest.mark.parametrize("tier", TIERS)
def test_attention_is_there_for_its_tiers_alone(tier):
    assert attention.is_available(tier) == (isa.number_of(tier) <= isa.number_of("avx512"))
    assert attention.are_bytes_available(tier) == (isa.number_of(tier) <= isa.number_of("avx512vnni"))


def record(kind, *names):
    """The Numba type of a record whose fields are int64, or float32 where named."""
    return types.NamedTuple([types.float32 if name in names else types.intp for name in kind._fields], kind)


FIELDS = record(ByteFields)
INT, REAL = types.intp, types.float32
BLOCK, TABLE = record(Block), record(TapTable)
BYTES = record(Bytes, "scale", "bias", "low", "high")
SIDES, FACTORS = record(quantised_add._Sides), record(quantised_add._Factors, *quantised_add._Factors._fields)
ADDED = (types.literal(0), SIDES, INT, INT, FACTORS, FIELDS)
#: Emitters whose code depends on the tier: literals before the level, and types of what follows it.
LEVELLED = {
    "activate": (activation._activate, (), (INT, INT, INT, record(activation._Choice), REAL, FIELDS)),
    "look up": (byte_table.look_up_bytes, (), (INT,) * 5),
    "gelu": (gelu._gelu_rows, (), (record(gelu._Rows),)),
    "gelu to bytes": (gelu._gelu_bytes, (), (record(gelu._Rows), REAL, FIELDS)),
    "quantise": (quantise.quantise_range, (), (INT, INT, INT, REAL, FIELDS)),
    "add": (quantised_add._add_range, (), ADDED),
    "depthwise": (integer_micro.multiply_bytes, (3, 1, 1), (BLOCK, TABLE, BYTES)),
    "depthwise loop": (integer_micro.multiply_bytes, (0, 0, 2), (BLOCK, TABLE, BYTES)),
}
PLANES, CHANNELS = record(Planes), record(Floats, "low", "high")
#: Emitters of one tier: what they are made for, and what it is.
FIXED = {
    "floats": (float_micro.multiply_floats, (3, 3, 4, 1), (BLOCK, TABLE, record(Floats, *Floats._fields)), "generic"),
    "pieces": (
        float_permuted_micro.convolve_pieces,
        (3,),
        (PLANES, record(float_permuted_micro.PieceTables), INT, CHANNELS),
        "avx512",
    ),
    "rows": (
        float_rows_micro.convolve_rows,
        (4, 2),
        (PLANES, record(float_rows_micro.Image), record(float_rows_micro.RowPieces), INT, CHANNELS),
        "avx512",
    ),
    "permuted": (
        permuted_micro.convolve_permuted,
        (5, 2, 4),
        (PLANES, record(permuted_micro.BlockTables), INT, record(Bytes, "low", "high")),
        "avx512vnni",
    ),
}


@pytest.fixture
def needs(monkeypatch):
    """What says which tiers' instructions an emitter names, given its literals and the types of what follows."""
    seen = set()
    emit = Operation.__call__

    def noted(operation, *args, **kwargs):
        seen.add(operation.needs)
        return emit(operation, *args, **kwargs)

    monkeypatch.setattr(Operation, "__call__", noted)

    def found(emitter, literals, kinds):
        seen.clear()
        signature, generate = emitter.__wrapped__(None, *(types.literal(number) for number in literals), *kinds)
        held = [cpu_target.target_context.get_value_type(kind) for kind in signature.args]
        function = ir.Function(ir.Module(), ir.FunctionType(ir.IntType(64), held), "emitted")
        generate(None, ir.IRBuilder(function.append_basic_block()), signature, function.args)
        return set(seen)

    return found


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", LEVELLED)
def test_no_higher_tier_is_named(name, tier, needs):
    emitter, literals, kinds = LEVELLED[name]
    number = isa.number_of(tier)
    named = {isa.number_of(each) for each in needs(emitter, (*literals, number), kinds)}
    assert min(named) >= number
    if tier == "avx512vnni":
        # Else what was looked at is not the code that depends on the tier.
        assert min(named) <= isa.number_of("avx512")


@pytest.mark.parametrize("name", FIXED)
def test_code_of_one_tier_names_what_it_is_chosen_by(name, needs):
    emitter, literals, kinds, tier = FIXED[name]
    assert min(isa.number_of(each) for each in needs(emitter, literals, kinds)) == isa.number_of(tier)
