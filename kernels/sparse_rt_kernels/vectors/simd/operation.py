"""A vector operation: how it is emitted, and what it means."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, ParamSpec

from llvmlite import ir
from numpy.typing import NDArray

from sparse_rt_kernels.jit.compiler import cgutils

__all__ = ["Array", "OPERATIONS", "Operation", "call_instruction", "operation"]

Array = NDArray[Any]
P = ParamSpec("P")


class Operation(Generic[P]):
    """A vector operation: how it is emitted and what it means.

    Attributes
    ----------
    name
        Its name among all of them.
    meaning
        The same on NumPy arrays of lanes.
    needs
        The tier of :mod:`sparse_rt_kernels.cpu.isa` whose instructions it names; ``"generic"`` for plain IR.
    """

    def __init__(self, emit: Callable[P, Any], meaning: Callable[..., Any], needs: str) -> None:
        self.name = emit.__name__
        self.meaning = meaning
        self.needs = needs
        self.__doc__ = emit.__doc__
        self._emit = emit

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Emit the operation; the first argument is the IR builder."""
        return self._emit(*args, **kwargs)


#: Every operation that has a meaning, by name.
OPERATIONS: dict[str, Operation[Any]] = {}


def operation(meaning: Callable[..., Any], needs: str = "generic") -> Callable[[Callable[P, Any]], Operation[P]]:
    """Make an operation of what emits it; see :class:`Operation`."""

    def wrap(emit: Callable[P, Any]) -> Operation[P]:
        made = Operation(emit, meaning, needs)
        OPERATIONS[made.name] = made
        return made

    return wrap


def call_instruction(builder: Any, name: str, result: Any, operands: Sequence[Any]) -> Any:
    """Call an instruction of x86, or another function that LLVM knows, by its name in LLVM."""
    signature = ir.FunctionType(result, [operand.type for operand in operands])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), operands)
