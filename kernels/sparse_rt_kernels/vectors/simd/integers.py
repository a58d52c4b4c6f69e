"""Integer arithmetic: two's complement, wrapping unless it says otherwise."""

from typing import Any

import numpy as np

from sparse_rt_kernels.vectors.simd.operation import call_instruction, operation

__all__ = [
    "add",
    "add_saturated",
    "bitwise_and",
    "bitwise_xor",
    "larger_byte",
    "multiply",
    "shift_right",
    "smaller_byte",
    "subtract",
]


@operation(lambda a, b: a + b)
def add(builder: Any, a: Any, b: Any) -> Any:
    """Add integers."""
    return builder.add(a, b)


@operation(lambda a, b: a - b)
def subtract(builder: Any, a: Any, b: Any) -> Any:
    """Subtract integers."""
    return builder.sub(a, b)


@operation(lambda a, b: a * b)
def multiply(builder: Any, a: Any, b: Any) -> Any:
    """Multiply integers."""
    return builder.mul(a, b)


@operation(lambda a, b: a & b)
def bitwise_and(builder: Any, a: Any, b: Any) -> Any:
    """Keep the bits that both have."""
    return builder.and_(a, b)


@operation(lambda a, b: a ^ b)
def bitwise_xor(builder: Any, a: Any, b: Any) -> Any:
    """Flip the bits of a that b has."""
    return builder.xor(a, b)


@operation(lambda a, b: (a.view(f"u{a.itemsize}") >> b.view(f"u{b.itemsize}")).view(a.dtype))
def shift_right(builder: Any, a: Any, b: Any) -> Any:
    """Shift each lane of a right by that lane of b (less than the lane's bits); zeros enter."""
    return builder.lshr(a, b)


@operation(lambda a, b: np.maximum(a.view(np.uint8), b.view(np.uint8)))
def larger_byte(builder: Any, a: Any, b: Any) -> Any:
    """Return the larger of two unsigned bytes."""
    return builder.select(builder.icmp_unsigned(">", a, b), a, b)


@operation(lambda a, b: np.minimum(a.view(np.uint8), b.view(np.uint8)))
def smaller_byte(builder: Any, a: Any, b: Any) -> Any:
    """Return the smaller of two unsigned bytes."""
    return builder.select(builder.icmp_unsigned("<", a, b), a, b)


@operation(lambda a, b: (a.astype(np.int32) + b).clip(-(2**15), 2**15 - 1).astype(np.int16))
def add_saturated(builder: Any, a: Any, b: Any) -> Any:
    """Add int16 lanes, saturating."""
    return call_instruction(builder, f"llvm.sadd.sat.v{a.type.count}i16", a.type, [a, b])
