"""The operators of a library."""

from sparse_rt_kernels.custom_op.contents import ANY_TYPE, VARIADIC, Domain, Operand, Operator

from sparse_rt.library import segments
from sparse_rt.library.onnxruntime_api import ELEMENT_TYPES

__all__ = ["domains"]


def domains() -> tuple[Domain, ...]:
    """Return the domains of a library and their operators, in the order in which they are numbered."""
    operators = tuple(
        Operator(
            segments.operator_of(dtype), (Operand(ANY_TYPE, VARIADIC),), (Operand(ELEMENT_TYPES[dtype], VARIADIC),)
        )
        for dtype in segments.OUTPUT_TYPES
    )
    return (Domain(segments.DOMAIN, operators),)
