"""What tests of verify share."""

import logging

import numpy as np
import pytest


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def quiet_quantiser():
    """onnxruntime's tool warns of models that were not prepared for it."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)
