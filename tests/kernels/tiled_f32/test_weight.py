"""How the float32 tiles of any vector width pack the formats that they take."""

import numpy as np
import pytest
from sparse_rt_kernels.product.weight import Dense, Indexed
from sparse_rt_kernels.tiled_f32.weight import STRATEGIES, number_of

from tests import naive

CHANNELS = 4


def matrix(n, k):
    return naive.random_weight(np.random.default_rng(n), (n, k), np.float32)


def test_every_strategy_is_found_by_its_format():
    for number, strategy in enumerate(STRATEGIES):
        assert number_of(strategy.format) == number


def test_a_format_without_a_strategy_is_refused():
    with pytest.raises(ValueError, match="no such format"):
        number_of("no such format")


@pytest.mark.parametrize(("n", "k"), [(7, 20), (8, 32), (1, 4), (5, 0)])
def test_dense_weights_are_interleaved_by_channels(n, k):
    w = matrix(n, k)
    packed = STRATEGIES[number_of("dense")].pack("name", Dense(w), CHANNELS)
    tiles, octets = -(-n // CHANNELS), max(1, -(-k // 8))
    values = packed.panels.values
    assert values.shape == (tiles, octets, 8, CHANNELS)
    assert packed.panels.indexes.shape == (tiles, 0, CHANNELS)
    assert (packed.n, packed.k) == (n, k)
    back = values.transpose(0, 3, 1, 2).reshape(tiles * CHANNELS, octets * 8)
    np.testing.assert_array_equal(back[:n, :k], w)
    assert not back[n:].any()
    assert not back[:, k:].any()


@pytest.mark.parametrize(("n", "k"), [(7, 20), (8, 32), (1, 4), (5, 0)])
def test_2_4_weights_are_interleaved_with_their_indexes(n, k):
    values, indexes = naive.encode_matrix(matrix(n, k))
    packed = STRATEGIES[number_of("n2m4")].pack("name", Indexed(values, indexes), CHANNELS)
    tiles, octets = -(-n // CHANNELS), max(1, -(-k // 8))
    assert packed.panels.values.shape == (tiles, octets, 4, CHANNELS)
    assert packed.panels.indexes.shape == (tiles, octets, CHANNELS)
    assert (packed.n, packed.k) == (n, k)
    back = packed.panels.values.transpose(0, 3, 1, 2).reshape(tiles * CHANNELS, octets * 4)
    np.testing.assert_array_equal(back[:n, : values.shape[1]], values)
    named = packed.panels.indexes.transpose(0, 2, 1).reshape(tiles * CHANNELS, octets)
    np.testing.assert_array_equal(named[:n, : indexes.shape[1]], indexes)
    assert not back[n:].any()
    assert not named[n:].any()
