"""Words that threads share: atomic operations on the int64 at an address, and a call of a function at an address.

All are sequentially consistent: they are used a few times a layer, and on x86 only stores cost more for it.
"""

import platform
from typing import Any

from llvmlite import ir

from sparse_rt_kernels.jit.compiler import cgutils, emitter, types
from sparse_rt_kernels.jit.llvm import I64

__all__ = ["call_task", "compare_exchange", "exchange", "fetch_add", "load", "pause"]

_ORDER = "seq_cst"
_IS_X86 = platform.machine() in {"x86_64", "AMD64"}


def _word(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, I64.as_pointer())


@emitter
def load(context: Any, address: Any) -> Any:
    """Return the word at `address`."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.load_atomic(_word(builder, given[0]), _ORDER, align=8, typ=I64)

    return types.intp(types.intp), generate


@emitter
def exchange(context: Any, address: Any, value: Any) -> Any:
    """Put `value` at `address`; return what was there."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.atomic_rmw("xchg", _word(builder, given[0]), given[1], _ORDER)

    return types.intp(types.intp, types.intp), generate


@emitter
def fetch_add(context: Any, address: Any, value: Any) -> Any:
    """Add `value` to the word at `address`; return what was there."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.atomic_rmw("add", _word(builder, given[0]), given[1], _ORDER)

    return types.intp(types.intp, types.intp), generate


@emitter
def compare_exchange(context: Any, address: Any, expected: Any, value: Any) -> Any:
    """Put `value` at `address` if `expected` is there; return 1 if so, else 0."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        pair = builder.cmpxchg(_word(builder, given[0]), given[1], given[2], _ORDER, _ORDER)
        return builder.zext(builder.extract_value(pair, 1), I64)

    return types.intp(types.intp, types.intp, types.intp), generate


@emitter
def pause(context: Any) -> Any:
    """Tell the core that a loop only waits; return 0."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        if _IS_X86:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return I64(0)

    return types.intp(), generate


@emitter
def call_task(
    context: Any, function: Any, task: Any, arguments: Any, x: Any, other: Any, out: Any, shared: Any, scratch: Any
) -> Any:
    """Call the C function at the address `function` with seven words; see :func:`.compilation.kernel_task`."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        kind = ir.FunctionType(I64, [I64] * 7)
        return builder.call(builder.inttoptr(given[0], kind.as_pointer()), given[1:])

    return types.intp(*[types.intp] * 8), generate
