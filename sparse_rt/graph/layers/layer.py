"""The normal form of a layer: one operator with one constant weight, dense or compressed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from sparse_rt.formats import Format, SparseWeight
from sparse_rt.graph.layers.dense_weight import DenseWeight
from sparse_rt.sparsity import Pattern

__all__ = ["AttributeValue", "Form", "Kind", "Layer", "Side"]

Kind = Literal["matmul", "conv", "conv_transpose"]
Form = Literal["float", "qdq", "qlinear", "integer", "dynamic"]
Side = Literal["left", "right"]
AttributeValue = int | float | str | tuple[int, ...] | tuple[float, ...] | None


@dataclass(frozen=True, eq=False)
class Layer:
    """One matrix product or convolution with a constant weight, in one form whatever operator the model uses.

    A node of the ``sparse_rt`` domain and the dense node that it replaced have the same normal form; only
    :attr:`node`, :attr:`stored` and what :attr:`reason` can say differ.
    """

    name: str
    """The node's name, or its first output's name where the node has none; unique enough for messages."""

    node: ir.Node
    """The node in the graph: dense, or of the ``sparse_rt`` domain."""

    op_type: str
    """The dense operator, also for compressed nodes: Conv, ConvTranspose, MatMul, Gemm, QLinearConv, QLinearMatMul,
    ConvInteger, MatMulInteger, or of the domain com.microsoft QGemm, FusedMatMul, FusedGemm, FusedConv,
    MatMulIntegerToFloat, DynamicQuantizeMatMul, and those that :data:`sparse_rt.graph.layers.ELSEWHERE` names."""

    kind: Kind
    """What is computed: ``matmul`` for MatMul, Gemm and their quantised forms."""

    form: Form
    """How numbers are represented: ``float``; ``qdq``, a float operator whose weight comes out of DequantizeLinear;
    ``qlinear``, integers in and out with scales (QLinearConv, QLinearMatMul, QGemm, and MatMulIntegerToFloat, whose
    output is float); ``integer``, integers in and int32 out (ConvInteger, MatMulInteger); ``dynamic``, float in and
    out with the activation quantised inside (DynamicQuantizeMatMul)."""

    constant_side: Side
    """Which operand is constant. ``left`` is y = W x with x (..., k, m), only for MatMul, QLinearMatMul and
    MatMulInteger; every other layer is ``right``."""

    x: ir.Value
    """The activation as the node reads it. In ``qdq`` form that is the float value behind DequantizeLinear."""

    y: ir.Value
    """The node's first output."""

    bias: ir.Value | None
    """B of Conv, C of Gemm (any shape that broadcasts) and QGemm; int32 in ``qlinear`` form, apart from
    MatMulIntegerToFloat's. None where absent."""

    shape: tuple[int, ...]
    """The canonical dense shape ``(n, c)`` or ``(n, c / group, *kernel)``, output channel first. For grouped
    ConvTranspose, where that has no meaning, the shape as stored. Empty when the weight is not constant."""

    dtype: np.dtype[Any]
    """Of the stored weight: float16, float32, int8 or uint8 where the layer qualifies."""

    weight_scale: np.ndarray[Any, Any] | None
    """Scalar (shape ``()``) or ``(n,)``; None in ``float`` and ``integer`` form."""

    weight_zero_point: np.ndarray[Any, Any] | None
    """Like :attr:`weight_scale`; None where absent, which means 0. All 0 where the layer qualifies."""

    x_scale: ir.Value | None
    """The node's own input, in ``qlinear`` form only. ``qdq`` layers have the scale at x's DequantizeLinear."""

    x_zero_point: ir.Value | None
    """The node's own input, in ``qlinear`` and ``integer`` form. None where absent, which means 0."""

    y_scale: ir.Value | None
    """The node's own input, in ``qlinear`` form only; None there for float output."""

    y_zero_point: ir.Value | None
    """The node's own input, in ``qlinear`` form only."""

    attributes: Mapping[str, AttributeValue]
    """The dense operator's attributes, defaults filled in. Convolutions: ``strides``, ``dilations``, ``pads`` (all
    begins, then all ends), ``auto_pad``, ``group``, ``kernel_shape``, for ConvTranspose ``output_padding`` and
    ``output_shape`` (None where absent). Gemm, QGemm and FusedMatMul: ``alpha``, ``transA``, ``transB``; Gemm:
    ``beta``; FusedMatMul: ``transBatchA``, ``transBatchB``. FusedConv and FusedGemm: ``activation`` and its numbers."""

    reason: str | None
    """Why this layer can neither be compressed nor run sparse, in words for the user; None when it can."""

    eligible: bool
    """True when at most the values of the weight stand in the way: pruning could make the layer qualify."""

    rank: int | None = None
    """How many axes y has; None where only a run can tell. See :func:`sparse_rt.graph.layers.ranks.find_ranks`."""

    stored: SparseWeight | None = None
    """The compressed weight in the file, for nodes of the ``sparse_rt`` domain; None for dense nodes."""

    weight: DenseWeight | None = field(default=None, repr=False)
    """The dense weight in canonical orientation, one object for layers that read the same tensor in the same way; None
    for compressed nodes or a weight that is not constant."""

    @property
    def compressed(self) -> SparseWeight | None:
        """The weight in compressed form: as stored, else encoded now; None when :attr:`reason` is given."""
        if self.stored is not None:
            return self.stored
        if self.reason is not None or self.weight is None:
            return None
        return self.weight.compressed(f"layer '{self.name}'")

    @property
    def format(self) -> Format | None:
        """What the weight is stored in, or would be; None when :attr:`reason` is given and it is not stored."""
        if self.stored is not None:
            return self.stored.format
        return None if self.reason is not None or self.weight is None else self.weight.format

    @property
    def pattern(self) -> Pattern | None:
        """What the zeros of the weight obey; None when :attr:`reason` is given and it is not stored."""
        if self.stored is not None:
            return self.stored.pattern
        return None if self.reason is not None or self.weight is None else self.weight.pattern

    def compressed_nbytes(self) -> int | None:
        """Return the bytes of the weight in compressed form; None where there is none."""
        if self.stored is not None:
            return self.stored.nbytes
        if self.format is None:
            return None
        known = self.format.nbytes(self.shape, self.dtype)
        if known is not None:
            return known
        compressed = self.compressed
        return None if compressed is None else compressed.nbytes

    def density(self) -> float | None:
        """Return the nonzeros of the weight / all; None where it is not constant."""
        if self.stored is not None:
            return self.stored.nonzeros / max(1, math.prod(self.shape))
        return None if self.weight is None else self.weight.density()

    def dense_weight(self) -> np.ndarray[Any, Any]:
        """Return the weight as ``shape``, in the stored dtype (integers are not dequantised).

        A view of the model's tensor where possible, mapped from disk when the data is external: do not write to it.

        Raises
        ------
        ValueError
            The weight is not constant.
        """
        if self.stored is not None:
            return self.stored.decode()
        if self.weight is None:
            raise ValueError(f"layer '{self.name}': expected a constant weight, got none.")
        return self.weight.array()
