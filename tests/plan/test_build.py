"""Plans over kernels in plain NumPy."""

import numpy as np
import pytest
from sparse_rt_kernels.product import registry

from tests.models import numpy_kernel
from tests.models.onnx_models import compare, info, model, node, normal, sparse


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_plans_do_not_depend_on_a_kernel(rng, monkeypatch):
    """The same plan over kernels in plain NumPy, which check what they are given."""
    monkeypatch.setattr(registry, "select", lambda dtype, format, tier: numpy_kernel.KERNELS[dtype])
    proto = model(
        [
            node("Conv", ["x", "w"], ["a"], strides=[2, 1], auto_pad="SAME_LOWER"),
            node("ConvTranspose", ["a", "v"], ["t"], strides=[2, 3], pads=[1, 0, 0, 1]),
            node("MatMul", ["left", "t"], ["y"]),
        ],
        [info("x", "b", 6, 7, 8)],
        [info("y", "b", 5, 9, "w_")],
        {
            "w": sparse(rng, 7, 6, 3, 2),
            "v": sparse(rng, 5, 7, 3, 2).swapaxes(0, 1).copy(),
            "left": sparse(rng, 9, 8),
        },
    )
    session = compare(proto, {"x": normal(rng, 2, 6, 7, 8)}, layers=3, islands=0)
    assert {report.kernel for report in session.explain()} == {"floats"}
