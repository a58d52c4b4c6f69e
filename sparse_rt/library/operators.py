"""The operators of libraries."""

import functools

from sparse_rt_kernels.custom_op.contents import ANY_TYPE, VARIADIC, Domain, Operand, Operator

from sparse_rt.formats import FORMATS
from sparse_rt.graph.operators import DOMAIN
from sparse_rt.library.form_operators import form_operators
from sparse_rt.library.onnxruntime_api import ELEMENT_TYPES
from sparse_rt.plan.hosted import host

__all__ = ["domains", "name_of", "segment_domains"]


def domains() -> tuple[Domain, ...]:
    """Return the domain of compressed layers and its operators, in the order in which they are numbered.

    There is none where no kernel of this CPU is worth it.
    """
    return _domains(tuple(FORMATS))


def name_of(number: int) -> tuple[str, str]:
    """Return the domain of an operator of :func:`domains`, and its name."""
    return _names(tuple(FORMATS))[number]


def segment_domains() -> tuple[Domain, ...]:
    """Return the domain of operators that are segments."""
    operators = tuple(
        Operator(name, (Operand(ANY_TYPE, VARIADIC),), (Operand(ELEMENT_TYPES[dtype], VARIADIC),))
        for dtype, name in host.OPERATORS.items()
    )
    return (Domain(host.DOMAIN, operators),)


@functools.cache
def _domains(formats: tuple[str, ...]) -> tuple[Domain, ...]:
    layers = form_operators()
    return (Domain(DOMAIN, layers),) if layers else ()


@functools.cache
def _names(formats: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((domain.name, operator.name) for domain in _domains(formats) for operator in domain.operators)
