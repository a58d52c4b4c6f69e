"""What the planner knows of one layer, what it decided about it, and why."""

from dataclasses import dataclass

from sparse_rt_kernels.product import registry

from sparse_rt.formats import DENSE

__all__ = ["LayerFacts", "LayerReport", "Trial"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One way to run a layer, or the whole model, and what it took.

    Attributes
    ----------
    candidate
        A kernel's name, or ``"onnxruntime"``; of whole models also ``"plan"``, ``"tuned plan"`` and ``"hosted"``.
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
        Name of the kernel of ours that runs the layer, sparse or dense, in place of onnxruntime; None for a layer that
        has no sparse kernel: onnxruntime runs it, or a step between layers, as ``plan.describe()`` says.
    reason
        Why this kernel was chosen, or why the layer stays dense.
    dense_bytes
        Bytes of the dense weight.
    compressed_bytes
        Bytes of what stands for the weight in a compressed file; None when the weight holds no pattern.
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
        return any(kernel.name == self.kernel and kernel.format != DENSE.name for kernel in registry.kernels())


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """What is true of a layer however it runs; see :class:`LayerReport` for most.

    Attributes
    ----------
    y
        Name of the value that the layer's operator writes; decisions go by it.
    """

    y: str
    name: str
    op_type: str
    shape: tuple[int, ...]
    pattern: str | None
    density: float | None
    dtype: str
    dense_bytes: int
    compressed_bytes: int | None

    def report(self, kernel: str | None, reason: str, tried: tuple[Trial, ...] = ()) -> LayerReport:
        """Return the report of the layer as it runs."""
        return LayerReport(
            name=self.name,
            op_type=self.op_type,
            shape=self.shape,
            pattern=self.pattern,
            density=self.density,
            dtype=self.dtype,
            kernel=kernel,
            reason=reason,
            dense_bytes=self.dense_bytes,
            compressed_bytes=self.compressed_bytes,
            tried=tried,
        )
