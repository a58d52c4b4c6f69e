"""What tests of hosted plans share."""

import logging

import pytest


@pytest.fixture
def quiet_quantiser():
    """onnxruntime's tool warns of models that were not prepared for it."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)
