"""Function bodies in the making."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir import tape

from sparse_rt.graph.operators import DOMAIN

__all__ = ["Body"]


class Body(tape.Tape):
    """A function body under construction, for a model of one ai.onnx opset."""

    def __init__(self, opset: int) -> None:
        super().__init__()
        self.opset = opset

    def __call__(self, op_type: str, *inputs: ir.Value | None, domain: str = "", **attributes: Any) -> ir.Value:
        """Add a node; return its first output."""
        return self.op(op_type, inputs, attributes, domain=domain)

    def constant(self, value: Any, dtype: type[np.generic] = np.int64) -> ir.Value:
        """Add a constant."""
        return self("Constant", value=ir.tensor(np.asarray(value, dtype)))

    def function(
        self,
        name: str,
        *,
        inputs: Sequence[ir.Value],
        output: ir.Value,
        attributes: Sequence[ir.Attr] = (),
        imports: dict[str, int],
        doc: str,
    ) -> ir.Function:
        """Return the function of our domain that has this body."""
        graph = ir.Graph(inputs, [output], nodes=self.nodes, opset_imports=imports, name=name, doc_string=doc)
        return ir.Function(DOMAIN, name, "", graph=graph, attributes=attributes)
