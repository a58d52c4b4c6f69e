"""What an operator answers when onnxruntime asks for its name, its types, how many inputs and outputs it has."""

from collections.abc import Callable, Sequence
from typing import Final

from sparse_rt_kernels.custom_op import native
from sparse_rt_kernels.custom_op.words import op

__all__ = ["FUNCTIONS"]


def name(own: int) -> int:
    """Return the address of its name."""
    return native.load(own + op.NAME)


def nothing(own: int) -> int:
    """Return 0: no execution provider but the CPU's; all inputs may differ in type."""
    return 0


def one(own: int) -> int:
    """Return 1: the fewest inputs of a variadic one."""
    return 1


def input_count(own: int) -> int:
    """Return the number of its inputs."""
    return native.load(own + op.INPUT_COUNT)


def input_type(own: int, number: int) -> int:
    """Return the element type of an input, an ONNXTensorElementDataType."""
    return native.load(native.load(own + op.INPUT_TYPES) + 8 * number)


def input_kind(own: int, number: int) -> int:
    """Return whether an input is required, optional or variadic."""
    return native.load(native.load(own + op.INPUT_KINDS) + 8 * number)


def default_memory(own: int, number: int) -> int:
    """Return OrtMemTypeDefault."""
    return 0


def output_count(own: int) -> int:
    """Return the number of its outputs."""
    return native.load(own + op.OUTPUT_COUNT)


def output_type(own: int, number: int) -> int:
    """Return the element type of an output."""
    return native.load(native.load(own + op.OUTPUT_TYPES) + 8 * number)


def output_kind(own: int, number: int) -> int:
    """Return whether an output is required, optional or variadic."""
    return native.load(native.load(own + op.OUTPUT_KINDS) + 8 * number)


#: All of them, and how many words each takes.
FUNCTIONS: Final[Sequence[tuple[Callable[..., int], int]]] = (
    (name, 1),
    (nothing, 1),
    (one, 1),
    (input_count, 1),
    (input_type, 2),
    (input_kind, 2),
    (default_memory, 2),
    (output_count, 1),
    (output_type, 2),
    (output_kind, 2),
)
