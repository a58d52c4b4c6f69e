"""The arithmetic after the accumulator: ONNX's quantisation parameters as a kernel's epilogue.

Scales are combined in float32 as ``x_scale * w_scale / y_scale``, in this order, which is what onnxruntime's
QLinearConv, QLinearMatMul and QGemm compute; the tests compare all three bit for bit.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue

__all__ = ["Requantisation", "float_epilogue"]

_INT32 = np.iinfo(np.int32)


def float_epilogue(n: int, bias: NDArray[np.float32] | None, low: float, high: float) -> FloatEpilogue:
    """Return the epilogue of a float layer with n output channels."""
    values = np.zeros(n, np.float32) if bias is None else np.ascontiguousarray(bias, np.float32)
    return FloatEpilogue(values, low, high)


@dataclass(frozen=True, eq=False)
class Requantisation:
    """All that makes the output of an integer layer of sum(x * w), while x's zero point may still be unknown.

    Attributes
    ----------
    row_sums
        (n,) int64, sum of the weights of each output channel.
    bias_integer
        (n,) int64, in units of x_scale * w_scale.
    scale
        (n,) float32, x_scale * w_scale / y_scale, without what is known only at run time; ones for int32 outputs.
    bias
        (n,) float32, in units of y_scale.
    low, high
        Clip bounds in units of y_scale.
    zero_point
        Of the output.
    """

    row_sums: NDArray[np.int64]
    bias_integer: NDArray[np.int64]
    scale: NDArray[np.float32]
    bias: NDArray[np.float32]
    low: float
    high: float
    zero_point: int

    def epilogue(self, x_zero_point: int, scale: NDArray[np.float32] | None = None) -> IntegerEpilogue:
        """Return the kernel's epilogue for one zero point of x and, where a scale is dynamic, its factor (n,).

        Offsets wrap like int32, as accumulators do.
        """
        total = self.bias_integer - x_zero_point * self.row_sums
        offset = (total & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
        factor = self.scale if scale is None else self.scale * scale
        return IntegerEpilogue(offset, factor, self.bias, self.low, self.high, self.zero_point)

    @staticmethod
    def to_int32(row_sums: NDArray[np.int64]) -> "Requantisation":
        """Return what an integer layer with int32 output needs (MatMulInteger, ConvInteger)."""
        n = len(row_sums)
        zeros = np.zeros(n, np.float32)
        return Requantisation(
            row_sums, np.zeros(n, np.int64), np.ones(n, np.float32), zeros, float(-np.inf), float(np.inf), 0
        )

    @staticmethod
    def of(
        row_sums: NDArray[np.int64],
        accumulator_scale: NDArray[np.float32],
        y_scale: np.float32 | None,
        *,
        zero_point: int,
        bias_integer: NDArray[np.int64] | None,
        bias: NDArray[np.float32] | None,
        low: float,
        high: float,
    ) -> "Requantisation":
        """Return what a layer with quantised output (or float output: `y_scale` None) needs.

        Parameters
        ----------
        row_sums
            (n,).
        accumulator_scale
            (n,), x_scale * w_scale.
        y_scale, zero_point
            Of the output.
        bias_integer, bias
            (n,), in units of the accumulator, and in real units.
        low, high
            Clip bounds in real units.
        """
        n = len(row_sums)
        unit = np.float32(1) if y_scale is None else y_scale
        real = np.zeros(n, np.float32) if bias is None else bias
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            return Requantisation(
                row_sums,
                np.zeros(n, np.int64) if bias_integer is None else bias_integer.astype(np.int64),
                np.ascontiguousarray(accumulator_scale / unit, np.float32),
                np.ascontiguousarray(real / unit, np.float32),
                float(np.float32(low) / unit),
                float(np.float32(high) / unit),
                zero_point,
            )


def accumulator_fits(absolute_sums: NDArray[np.int64], bias_integer: NDArray[np.int64] | None) -> bool:
    """Return whether no sum of x * w + bias with 8-bit x can leave int32.

    Parameters
    ----------
    absolute_sums
        (n,), sum of |w| of each output channel; an activation less its zero point is at most 255 in magnitude.
    bias_integer
        (n,).
    """
    reach = 255 * absolute_sums
    if bias_integer is not None:
        reach = reach + np.abs(bias_integer.astype(np.int64))
    return bool((reach <= _INT32.max).all())
