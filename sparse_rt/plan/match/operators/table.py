"""The matchers of operators, by the operators at which they begin."""

from collections.abc import Callable, Mapping
from typing import Final

import onnx_ir as ir

from sparse_rt.plan.match.operators import (
    activation,
    add,
    attention,
    average_pool,
    concat,
    gelu,
    global_average_pool,
    layer_norm,
    max_pool,
    quantise,
    reshape,
    softmax,
)
from sparse_rt.plan.match.operators.context import Context
from sparse_rt.plan.match.replacement import Replacement

__all__ = ["CLAIMS", "MATCHERS"]

Matcher = Callable[[ir.Node, Context], Replacement | None]
Claim = Callable[[ir.Node, Context], bool]

#: In the order in which they are asked. A new operator step is a file with a matcher, and a line here.
MATCHERS: Final[Mapping[str, tuple[Matcher, ...]]] = {
    "Add": (add.match,),
    "AveragePool": (average_pool.match,),
    "BiasGelu": (gelu.match,),
    "Concat": (concat.match,),
    "DequantizeLinear": (quantise.match_dequantise,),
    "Elu": (activation.match,),
    "Erf": (gelu.match_erf,),
    "FastGelu": (gelu.match,),
    "Flatten": (reshape.match,),
    "Gelu": (gelu.match,),
    "GlobalAveragePool": (global_average_pool.match,),
    "HardSigmoid": (activation.match,),
    "HardSwish": (activation.match,),
    "LayerNormalization": (layer_norm.match,),
    "LeakyRelu": (activation.match,),
    "MaxPool": (max_pool.match,),
    "QuantizeLinear": (quantise.match_quantise,),
    "Reshape": (reshape.match,),
    "Sigmoid": (activation.match,),
    "SkipLayerNormalization": (layer_norm.match_skip,),
    "Softmax": (attention.match, softmax.match),
    "Softplus": (activation.match,),
    "Tanh": (activation.match,),
}

#: Whether a node belongs to an operator that comes after it, whose kernel computes it along.
CLAIMS: Final[Mapping[str, tuple[Claim, ...]]] = {"Add": (layer_norm.claims, attention.claims)}
