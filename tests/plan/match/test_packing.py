"""Weights that layers share are packed once for each kernel."""

import numpy as np
import pytest
from sparse_rt_kernels.product import registry

from sparse_rt import formats
from sparse_rt.plan.match.packing import PackedWeights, pack, pack_blank
from tests.models.onnx_models import sparse


@pytest.fixture
def weight():
    return formats.by_name("n2m4").encode(sparse(np.random.default_rng(2), 8, 16))


def test_only_what_is_shared_is_kept(weight):
    kernel = registry.select("f32", "n2m4")
    packed = PackedWeights()
    assert packed.of(kernel, weight, True) is packed.of(kernel, weight, True)
    alone = PackedWeights()
    assert alone.of(kernel, weight, False) is not alone.of(kernel, weight, False)


@pytest.mark.parametrize("name", ["n2m4", "dense"])
def test_a_kernel_gets_the_weight_in_its_own_format(weight, name):
    kernel = registry.select("f32", name)
    assert (pack(kernel, weight).n, pack(kernel, weight).k) == (8, 16)
    blank = pack_blank(kernel, (3, 5, 2, 2))
    assert (blank.kernel, blank.n, blank.k) == (kernel.name, 3, 32)
