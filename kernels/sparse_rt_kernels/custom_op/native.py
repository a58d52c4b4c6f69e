"""What compiled functions need to speak a C interface: calls by address, words on the stack, memory of C's own."""

from typing import Any

from llvmlite import ir

from sparse_rt_kernels.jit.compiler import emitter, external, types
from sparse_rt_kernels.jit.llvm import I8, I64

__all__ = ["call", "copy_bytes", "load", "load_byte", "stack", "store"]

#: C's memmove: (target, source, bytes).
copy_bytes: Any = external("memmove", "intp", "intp", "intp", "intp")


def _word(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, I64.as_pointer())


@emitter
def load(context: Any, address: Any) -> Any:
    """Return the word at `address`."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.load(_word(builder, given[0]), typ=I64)

    return types.intp(types.intp), generate


@emitter
def load_byte(context: Any, address: Any) -> Any:
    """Return the byte at `address`, 0 to 255."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        place = builder.inttoptr(given[0], I8.as_pointer())
        return builder.zext(builder.load(place, typ=I8), I64)

    return types.intp(types.intp), generate


@emitter
def store(context: Any, address: Any, value: Any) -> Any:
    """Put the word `value` at `address`; return it."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        builder.store(given[1], _word(builder, given[0]))
        return given[1]

    return types.intp(types.intp, types.intp), generate


@emitter
def call(context: Any, function: Any, arguments: Any) -> Any:
    """Call the C function at the address `function` with a tuple of words; return the word that it returns."""
    count = len(arguments)

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        kind = ir.FunctionType(I64, [I64] * count)
        words = [builder.extract_value(given[1], number) for number in range(count)]
        return builder.call(builder.inttoptr(given[0], kind.as_pointer()), words)

    return types.intp(types.intp, types.UniTuple(types.intp, count)), generate


@emitter
def stack(context: Any, words: Any) -> Any:
    """Return the address of so many words on the stack, a multiple of 64; they hold anything.

    They last until the compiled function returns that asks for them, into which its own calls are inlined.
    """
    count = words.literal_value

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        with builder.goto_entry_block():
            room = builder.alloca(ir.ArrayType(I64, count))
            room.align = 64
        return builder.ptrtoint(room, I64)

    return types.intp(words), generate
