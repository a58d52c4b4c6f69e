"""The operators of a library."""

import functools

from sparse_rt_kernels.custom_op.contents import ANY_TYPE, VARIADIC, Domain, Operand, Operator

from sparse_rt.formats import FORMATS
from sparse_rt.graph.operators import DOMAIN
from sparse_rt.library.form_operators import form_operators
from sparse_rt.library.onnxruntime_api import ELEMENT_TYPES
from sparse_rt.plan.hosted import host

__all__ = ["domains", "name_of"]


def domains() -> tuple[Domain, ...]:
    """Return the domains of a library and their operators, in the order in which they are numbered."""
    return _domains(tuple(FORMATS))


def name_of(number: int) -> tuple[str, str]:
    """Return the domain of an operator, and its name."""
    return _names(tuple(FORMATS))[number]


@functools.cache
def _domains(formats: tuple[str, ...]) -> tuple[Domain, ...]:
    segment_operators = tuple(
        Operator(name, (Operand(ANY_TYPE, VARIADIC),), (Operand(ELEMENT_TYPES[dtype], VARIADIC),))
        for dtype, name in host.OPERATORS.items()
    )
    layers = form_operators()
    return Domain(host.DOMAIN, segment_operators), *((Domain(DOMAIN, layers),) if layers else ())


@functools.cache
def _names(formats: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((domain.name, operator.name) for domain in _domains(formats) for operator in domain.operators)
