"""What the planner decided about one layer, and why."""

from dataclasses import dataclass

__all__ = ["LayerReport", "Trial"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One way to run a layer, or the whole model, and what it took.

    Attributes
    ----------
    candidate
        A kernel's name, or ``"onnxruntime"``; of whole models also ``"plan"`` and ``"tuned plan"``.
    microseconds
        The median of its runs.
    """

    candidate: str
    microseconds: float

    def __str__(self) -> str:
        return f"{self.candidate} {self.microseconds:.4g} us"


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
        Name of the kernel of ours that runs the layer, sparse or dense; None when onnxruntime runs it.
    reason
        Why this kernel was chosen, or why the layer stays dense.
    dense_bytes
        Bytes of the dense weight.
    compressed_bytes
        Bytes of values and index; None when the weight holds no pattern.
    tried
        What was measured on the layer's shape before it was decided; empty where nothing was.
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
    tried: tuple[Trial, ...] = ()

    @property
    def is_sparse(self) -> bool:
        """Whether a sparse kernel runs the layer."""
        return self.kernel is not None and "_dense_" not in self.kernel
