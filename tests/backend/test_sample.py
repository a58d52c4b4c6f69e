"""A sample of ONNX's own tests; `make backend` takes all of them."""

import pytest

from tests.backend import suite

EVERY = 40


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_sample_of_the_suite_gives_what_stock_gives():
    counts, problems = suite.run(EVERY)
    assert problems == []
    assert set(suite.KINDS) <= set(counts)


def test_the_comparison_sees_a_difference():
    assert suite.difference((1.0,), (2.0,), exact=False)
    assert suite.difference((1.0,), ValueError(), exact=True).startswith("only ours")
    assert suite.difference(ValueError(), (1.0,), exact=True).startswith("only stock")
    assert suite.difference(KeyError(), ValueError(), exact=True).startswith("a foreign error")
