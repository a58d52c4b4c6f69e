"""Which nodes around the dense operator belong to a compressed one: a chain of standard operators, in one order.

    [DequantizeLinear of x] [DequantizeLinear of the bias] operator [Add] [Relu | Clip] [QuantizeLinear]

An engine with a kernel for the operator then runs the chain as one; any other inlines the function, and finds the nodes
that were there before.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from sparse_rt.graph.dense_forms import DenseForm

__all__ = ["ALONE", "OPERANDS", "Activation", "Addition", "Neighbours", "possible"]

Addition = Literal["", "plus_bias", "bias_plus", "plus_residual", "residual_plus"]
Activation = Literal["", "relu", "clip"]

OPERANDS = ("bias_scale", "bias_zero_point", "low", "high", "residual")
"""The inputs that compressed operators with neighbours have behind all others, in order."""


@dataclass(frozen=True)
class Neighbours:
    """The nodes of the chain beside the dense operator.

    Attributes
    ----------
    x
        Whether x comes quantised.
    bias
        Whether the operator's own bias comes quantised, as int32; only where x does.
    addition
        What is added to the result, on the right or on the left of Add: a constant for each output channel, or another
        activation. onnxruntime takes the sides into account where it fuses.
    activation
        What follows.
    y
        Whether y leaves quantised; only where x comes so.
    """

    x: bool = False
    bias: bool = False
    addition: Addition = ""
    activation: Activation = ""
    y: bool = False

    @property
    def suffix(self) -> str:
        """What the names of operators say of it."""
        quantised = ("x" if self.x else "") + ("b" if self.bias else "")
        parts = (quantised, self.addition, self.activation, "y" if self.y else "")
        return "".join(f"_{part}" for part in parts if part)

    @property
    def operands(self) -> tuple[str, ...]:
        """The names of the inputs that its nodes read, all of which are there."""
        found: tuple[str, ...] = ()
        if self.x:
            found += ("x_scale", "x_zero_point")
        if self.bias:
            found += ("bias", "bias_scale", "bias_zero_point")
        if self.addition:
            found += ("residual",) if "residual" in self.addition else ("bias",)
        if self.activation == "clip":
            found += ("low", "high")
        if self.y:
            found += ("y_scale", "y_zero_point")
        return found


ALONE = Neighbours()
"""Those of an operator without any."""

_ACTIVATIONS: tuple[Activation, ...] = ("", "relu", "clip")


def possible(form: DenseForm) -> Iterator[Neighbours]:
    """Yield all neighbours that the compressed operators of a dense form may have, :data:`ALONE` first.

    Parameters
    ----------
    form
        With the inputs that the dense node has.
    """
    yield ALONE
    if form.domain or form.half or form.form not in ("float", "qdq"):
        return
    additions = _additions(form)
    if form.form == "float":
        for addition, activation in itertools.product(additions, _ACTIVATIONS):
            if addition or activation:
                yield Neighbours(addition=addition, activation=activation)
        return
    for bias in (False, True) if "bias" in form.inputs else (False,):
        around = Neighbours(x=True, bias=bias)
        for addition, activation, y in itertools.product(additions, _ACTIVATIONS, (False, True)):
            yield replace(around, addition=addition, activation=activation, y=y)


def _additions(form: DenseForm) -> tuple[Addition, ...]:
    """Return what may be added: a bias to a product that has none of its own, an activation to a float convolution."""
    if form.kind == "conv" and form.form == "float":
        return ("", "plus_residual", "residual_plus")
    if form.op_type == "MatMul" and form.side == "right":
        return ("", "plus_bias", "bias_plus")
    return ("",)
