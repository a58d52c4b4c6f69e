"""Random feeds and .npz files."""

from dataclasses import dataclass

import numpy as np
import pytest

from sparse_rt.errors import FeedError, SparseRTError
from sparse_rt.feeds import random_feeds, read_npz, write_npz


@dataclass
class Input:
    name: str
    shape: list
    type: str = "tensor(float)"


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ([2, 3], (2, 3)),
        ([], ()),
        (["batch", 3, "height", "width"], (4, 3, 224, 224)),
        (["N", 3, None, None], (4, 3, 224, 224)),
        ([None, None, None, None], (4, 3, 224, 224)),
        (["batch_size", "sequence_length"], (4, 128)),
        (["p", "q", 768], (4, 128, 768)),
        (["width", "batch"], (224, 4)),
    ],
)
def test_symbolic_sizes(shape, expected):
    assert random_feeds([Input("x", shape)], batch=4)["x"].shape == expected


def test_one_symbol_has_one_size():
    feeds = random_feeds([Input("a", ["batch", "frames"]), Input("b", [1, 1, 1, 1, "frames"])])
    assert feeds["a"].shape == (1, 128)
    assert feeds["b"].shape[-1] == 128


@pytest.mark.parametrize("shape", [[1, 2, "x"], [1, 1, 1, 1, "depth"]])
def test_sizes_that_cannot_be_guessed(shape):
    with pytest.raises(FeedError, match=r"dimension \d of"):
        random_feeds([Input("x", shape)])


def test_values():
    feeds = random_feeds(
        [
            Input("x", [64, 64]),
            Input("half", [8], "tensor(float16)"),
            Input("ids", [2, 50], "tensor(int64)"),
            Input("attention_mask", [2, 50], "tensor(int64)"),
            Input("flag", [3], "tensor(bool)"),
            Input("pixels", [4096], "tensor(uint8)"),
        ]
    )
    assert feeds["x"].dtype == np.float32
    assert abs(feeds["x"].mean()) < 0.1
    assert feeds["half"].dtype == np.float16
    assert set(np.unique(feeds["ids"])) == {0, 1}
    assert feeds["attention_mask"].all()
    assert feeds["flag"].all()
    assert (feeds["pixels"].min(), feeds["pixels"].max()) == (0, 255)
    again = random_feeds([Input("x", [64, 64])])
    assert np.array_equal(again["x"], feeds["x"])
    assert not np.array_equal(random_feeds([Input("x", [64, 64])], seed=1)["x"], feeds["x"])


def test_what_cannot_be_random():
    with pytest.raises(FeedError, match="tensor of numbers"):
        random_feeds([Input("s", [1], "tensor(string)")])
    with pytest.raises(FeedError, match="at least 1"):
        random_feeds([Input("x", ["batch"])], batch=0)


def test_npz_round_trip_of_any_name(tmp_path):
    arrays = {"file": np.arange(3), "a/b": np.ones((2, 0)), "scalar": np.float32(2)}
    write_npz(tmp_path / "x.npz", arrays)
    found = read_npz(tmp_path / "x.npz")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_npz(tmp_path / "x.npz", {"a": np.arange(3)})
    with pytest.raises(ValueError, match="Object arrays"):
        write_npz(tmp_path / "x.npz", {"b": np.arange(9), "a": np.array([{}], object)})
    assert list(read_npz(tmp_path / "x.npz")) == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]
    with pytest.raises(SparseRTError, match="can be written"):
        write_npz(tmp_path / "no" / "x.npz", {})


def test_unreadable_npz(tmp_path):
    single = tmp_path / "single.npy"
    np.save(single, np.arange(3))
    write_npz(tmp_path / "good.npz", {"a": np.arange(1000)})
    content = (tmp_path / "good.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[:-50])
    (tmp_path / "bent.npz").write_bytes(content[:200] + b"\xff" * 50 + content[250:])
    (tmp_path / "empty.npz").write_bytes(b"")
    for name in ("single.npy", "cut.npz", "bent.npz", "empty.npz", "none.npz", "."):
        with pytest.raises(FeedError):
            read_npz(tmp_path / name)
