"""What the planner decided about one layer, and why."""

from dataclasses import dataclass

__all__ = ["LayerReport"]


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One layer of a model: what was found in its weight, which kernel runs it, and the reason.

    Attributes
    ----------
    name
        The node's name, or its first output's where the node has none.
    op_type
        The dense operator, also for compressed nodes.
    shape
        Dense shape of the weight, output channel first; empty when the weight is not constant.
    pattern
        The sparsity pattern that the weight holds, such as ``"2:4"``; None when it holds none or was not looked at.
    density
        Nonzeros / all; None when the weight is not constant.
    dtype
        Of the stored weight.
    kernel
        Name of the sparse kernel that runs the layer; None when onnxruntime runs it.
    reason
        Why this kernel was chosen, or why the layer stays dense.
    dense_bytes
        Bytes of the dense weight.
    compressed_bytes
        Bytes of values and index; None when the weight holds no pattern.
    """

    name: str
    op_type: str
    shape: tuple[int, ...]
    pattern: str | None
    density: float | None
    dtype: str
    kernel: str | None
    reason: str
    dense_bytes: int
    compressed_bytes: int | None

    @property
    def is_sparse(self) -> bool:
        """Whether a sparse kernel runs the layer."""
        return self.kernel is not None
