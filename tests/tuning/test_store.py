"""What is kept is read again, or measured again; whatever the cache does costs time only."""

import json
import os
import shutil
import threading

import numpy as np
import pytest
from sparse_rt_kernels.disk import trusted_files

import sparse_rt as srt
from sparse_rt.tuning.store import Store
from tests.models.forced_measurements import needs_jit
from tests.models.onnx_models import info, model, node, normal, sparse, stock


def test_the_store_returns_what_was_written(tmp_path):
    store = Store(tmp_path / "new")
    assert store.read("layer", {"n": 8}) is None
    store.write("layer", {"n": 8}, {"a": 1})
    assert store.read("layer", {"n": 8}) == {"key": {"n": 8}, "a": 1}
    assert store.read("layer", {"n": 9}) is None
    assert store.read("model", {"n": 8}) is None
    (path,) = (tmp_path / "new").iterdir()
    assert json.loads(path.read_text())["key"] == {"n": 8}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"3", b'{"key": {"n": 9}}', b'{"a": 1}'])
def test_a_damaged_file_was_never_written(tmp_path, content):
    store = Store(tmp_path)
    store.write("layer", {"n": 8}, {"a": 1})
    (path,) = tmp_path.iterdir()
    path.write_bytes(content)
    assert store.read("layer", {"n": 8}) is None
    store.write("layer", {"n": 8}, {"a": 2})
    assert store.read("layer", {"n": 8})["a"] == 2


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path):
    (tmp_path / "file").write_text("in the way")
    store = Store(tmp_path / "file" / "folder")
    store.write("layer", {"n": 8}, {"a": 1})
    assert store.read("layer", {"n": 8}) is None


def test_writers_at_once_leave_whole_files(tmp_path):
    store = Store(tmp_path)

    def work(number):
        for _ in range(30):
            store.write("layer", {"n": 8}, {"text": str(number) * 1000})
            assert set(store.read("layer", {"n": 8})["text"]) <= set("0123")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


def with_all(value, document):
    return json.dumps({name: key if name == "key" else value for name, key in document.items()}).encode()


NASTY = {
    "empty": lambda document: b"",
    "cut": lambda document: json.dumps(document).encode()[:-7],
    "no text": lambda document: b"\xff\xfe\x00",
    "deep": lambda document: b"[" * 300_000,
    "deep key": lambda document: b'{"key": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    "huge number": lambda document: json.dumps({**document, "microseconds": {"a": 10**4000}}).encode(),
    "infinite": lambda document: json.dumps({**document, "microseconds": {"a": float("inf")}}).encode(),
    "nothing": lambda document: b"null",
    "list": lambda document: json.dumps([document]).encode(),
    "numbers": lambda document: with_all(3, document),
    "lists": lambda document: with_all([], document),
    "texts": lambda document: with_all("", document),
    "other kernels": lambda document: json.dumps(document).replace("n2m4", "none").encode(),
    "foreign kernels": lambda document: json.dumps(document).replace("f32_", "u8s8_").encode(),
    "large": lambda document: json.dumps({**document, "more": "x" * 20_000_000}).encode(),
    "doubled": lambda document: json.dumps(document).encode() * 2,
    "surrogates": lambda document: json.dumps({**document, "reason": "\ud800", "whole": "\ud800"}).encode(),
}


def make():
    """Return a function that makes a tuned session and compares its answers."""
    rng = np.random.default_rng(3)
    proto = model(
        [node("MatMul", ["x", "v"], ["a"]), node("Relu", ["a"], ["b"]), node("MatMul", ["b", "w"], ["y"])],
        [info("x", 3, 16)],
        [info("y", 3, 64)],
        {"v": sparse(rng, 8, 16).T.copy(), "w": sparse(rng, 64, 8).T.copy()},
    )
    x = normal(rng, 3, 16)
    expected = stock(proto, {"x": x})[0]

    def run(mode="on"):
        session = srt.InferenceSession(proto, srt.SessionOptions(1, tuning=mode, tuning_seconds=0.0))
        np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-4, atol=1e-5)
        return session

    return run


@pytest.fixture(scope="module")
def check():
    """The same, after its kernels were compiled, or found in the user's cache."""
    run = make()
    run()
    return run


@pytest.fixture
def cache(check, tmp_path, monkeypatch):
    """The only cache folder; it does not exist yet."""
    monkeypatch.setenv("SPARSE_RT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@needs_jit
@pytest.mark.parametrize("kind", NASTY)
def test_measurements_that_say_anything(cache, check, kind):
    check()
    files = list(cache.glob("*/tuning/*.json"))
    assert {path.name.partition("-")[0] for path in files} == {"layer", "model"}
    for path in files:
        path.write_bytes(NASTY[kind](json.loads(path.read_bytes())))
    check("cached")
    check("on")


@needs_jit
@pytest.mark.parametrize("kind", ["file", "FIFO", "folder", "loop", "nowhere"])
def test_what_stands_in_a_files_place(cache, check, kind):
    check()
    for path in cache.rglob("*"):
        if path.is_file():
            path.unlink()
            if kind == "folder":
                path.mkdir()
            elif kind == "FIFO":
                os.mkfifo(path)
            elif kind == "file":
                path.touch()
            else:
                path.symlink_to(path if kind == "loop" else "nothing")
    check()


@needs_jit
def test_a_file_in_the_folders_place(cache, check):
    cache.write_text("no folder")
    check()


@needs_jit
def test_a_folder_that_is_deleted_between_and_during_sessions(cache, check, monkeypatch):
    check()
    shutil.rmtree(cache)
    session = check()
    shutil.rmtree(cache)
    assert session.explain()
    real = os.replace
    monkeypatch.setattr(trusted_files.os, "replace", lambda *a, **k: (shutil.rmtree(cache), real(*a, **k)))
    check()


@needs_jit
@pytest.mark.parametrize("number", [28, 30, 13, 5, 24, 122, 116])
def test_a_file_system_that_refuses(cache, check, monkeypatch, number):
    def refuse(*arguments, **options):
        raise OSError(number, os.strerror(number))

    check()
    for names in (("replace",), ("mkdir", "replace"), ("fdopen",), ("open",), ("fstat",)):
        with monkeypatch.context() as patched:
            for name in names:
                patched.setattr(trusted_files.os, name, refuse)
            check()


@needs_jit
def test_a_full_disk(cache, check):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        check()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not [path for path in cache.rglob("*") if path.is_file()]
