"""A step checks what its kernel trusts."""

import numpy as np
import pytest
from sparse_rt_kernels.product.weight import Indexed

from sparse_rt import formats
from sparse_rt.plan.steps.sparse_step import SparseStep
from tests.models import numpy_kernel
from tests.models.onnx_models import sparse


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_a_step_refuses_a_weight_of_another_shape(rng):
    values, index = formats.encode_matrix(sparse(rng, 8, 16))
    kernel = numpy_kernel.KERNELS["f32"]
    real = np.dtype(np.float32)
    packed = kernel.pack_weight(Indexed(values, index))
    epilogue = numpy_kernel.float_epilogue(8)
    types = {"op_type": "Gemm", "name": "l", "x": "x", "x_dtype": real, "y": "y", "y_dtype": real}
    SparseStep(**types, kernel=kernel, packed=packed, epilogue=epilogue, n=8, channels=16)
    for n, channels, bias in [(9, 16, 8), (8, 20, 8), (8, 16, 7)]:
        epilogue = numpy_kernel.float_epilogue(bias)
        with pytest.raises(ValueError, match="layer 'l'"):
            SparseStep(**types, kernel=kernel, packed=packed, epilogue=epilogue, n=n, channels=channels)
