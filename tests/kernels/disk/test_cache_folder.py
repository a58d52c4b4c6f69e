"""The cache: nothing of anybody else's is read, and it can fail in any way for the price of time."""

import errno
import logging
import os
import random
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sparse_rt_kernels.disk import cache_folder, trusted_files
from sparse_rt_kernels.jit import machine_code
from sparse_rt_kernels.jit.numba_cache import FunctionCache
from sparse_rt_kernels.jit.object_file import Image

KEY, NAME, CONTENT = "0123abcd", "task.image", bytes(range(256)) * 40
OTHER = 12345  # a user that is neither root nor the one who runs the tests

needs_owners = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no owners here")
needs_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def base(tmp_path, monkeypatch):
    """The only cache folder; it does not exist yet."""
    folder = tmp_path / "up" / "cache"
    monkeypatch.setenv("SPARSE_RT_CACHE_DIR", str(folder))
    monkeypatch.delenv("SPARSE_RT_CACHE_SHARED", raising=False)
    return folder


@pytest.fixture
def kept(base):
    assert cache_folder.store(KEY, NAME, CONTENT)
    assert cache_folder.find(KEY, NAME) == CONTENT
    return base


def mode(path):
    return stat.S_IMODE(path.lstat().st_mode)


# --- whom it believes ----------------------------------------------------------------------------------------------


@needs_owners
@pytest.mark.parametrize("umask", [0, 0o002, 0o022, 0o077, 0o377, 0o777])
@pytest.mark.parametrize("is_shared", [False, True])
def test_modes_are_the_same_whatever_the_umask(base, umask, is_shared, monkeypatch):
    monkeypatch.setenv("SPARSE_RT_CACHE_SHARED", "1" if is_shared else "0")
    before = os.umask(umask)
    try:
        assert cache_folder.store(KEY, NAME, CONTENT)
    finally:
        os.umask(before)
    folders = [base.parent, base, base / KEY]
    assert [mode(path) for path in folders] == [0o755 if is_shared else 0o700] * 3
    assert mode(base / KEY / NAME) == (0o644 if is_shared else 0o600)
    assert cache_folder.find(KEY, NAME) == CONTENT


PLACES = {"up": lambda base: base.parent, "base": lambda base: base, "key": lambda base: base / KEY}
ALL = {**PLACES, "file": lambda base: base / KEY / NAME}


@needs_owners
@pytest.mark.parametrize("place", ALL)
@pytest.mark.parametrize("others", [0o002, 0o022, 0o020])
def test_what_others_may_write_is_not_read(kept, place, others, caplog):
    if os.geteuid() and others == 0o020 and place in ("up", "base"):
        pytest.skip("a group of this user's own may write there")
    path = ALL[place](kept)
    path.chmod(mode(path) | others)
    with caplog.at_level(logging.WARNING, "sparse_rt"):
        assert cache_folder.find(KEY, NAME) is None
    assert "can be written by others" in caplog.text
    path.chmod(mode(path) & ~others)
    assert cache_folder.find(KEY, NAME) == CONTENT


@needs_root
@pytest.mark.parametrize("place", ALL)
def test_what_belongs_to_another_user_is_not_read_by_root_either(kept, place):
    path = ALL[place](kept)
    os.chown(path, OTHER, OTHER)
    assert cache_folder.find(KEY, NAME) is None
    if place != "file":
        assert not cache_folder.store(KEY, "other", CONTENT), "nor is anything written there"
        assert not (kept / KEY / "other").exists()
    os.chown(path, 0, 0)
    assert cache_folder.find(KEY, NAME) == CONTENT


@needs_owners
def test_an_attack_through_a_folder_for_all(tmp_path, base, monkeypatch):
    """A crafted file with a right checksum, prepared where anybody may write."""
    place = tmp_path / "everybody"
    place.mkdir()
    place.chmod(0o777)
    monkeypatch.setenv("SPARSE_RT_CACHE_DIR", str(place / "cache"))
    assert not cache_folder.store(KEY, NAME, CONTENT)
    place.chmod(0o1777)  # as /tmp: nobody can replace what they do not own
    assert cache_folder.store(KEY, NAME, CONTENT)
    assert cache_folder.find(KEY, NAME) == CONTENT
    place.chmod(0o777)
    assert cache_folder.find(KEY, NAME) is None


@needs_owners
@pytest.mark.parametrize("place", PLACES)
def test_links_on_the_way(kept, tmp_path, place):
    """A link of this user's leads to the cache; inside there are none."""
    path = PLACES[place](kept)
    moved = tmp_path / "moved"
    path.rename(moved)
    path.symlink_to(moved)
    assert cache_folder.find(KEY, NAME) == (None if place == "key" else CONTENT)
    assert cache_folder.store(KEY, "more", b"1") == (place != "key")
    path.unlink()
    path.symlink_to(os.path.relpath(moved, path.parent))
    assert cache_folder.find(KEY, NAME) == (None if place == "key" else CONTENT)
    moved.chmod(0o777)
    assert cache_folder.find(KEY, NAME) is None
    path.unlink()
    path.symlink_to(path.name)
    assert cache_folder.find(KEY, NAME) is None, "a loop"
    assert not cache_folder.store(KEY, NAME, CONTENT)


@needs_root
def test_a_link_of_another_users_is_not_followed(kept, tmp_path):
    moved = tmp_path / "moved"
    kept.rename(moved)
    kept.symlink_to(moved)
    os.chown(kept, OTHER, OTHER, follow_symlinks=False)
    assert cache_folder.find(KEY, NAME) is None


@needs_owners
def test_a_linked_file_is_not_read(kept, tmp_path):
    file = kept / KEY / NAME
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert cache_folder.find(KEY, NAME) is None
    assert cache_folder.store(KEY, NAME, CONTENT)
    assert not file.is_symlink()


@needs_root
def test_a_shared_cache_serves_other_users_who_cannot_write_to_it(base, monkeypatch, tmp_path):
    """Root fills it, another user reads it; the folders above are opened for that user."""
    monkeypatch.setenv("SPARSE_RT_CACHE_SHARED", "1")
    cache_folder.store(KEY, NAME, CONTENT)
    private = [folder for folder in base.parents if mode(folder) & 0o005 != 0o005]
    before = [mode(folder) for folder in private]
    try:
        for folder in private:
            folder.chmod(mode(folder) | 0o005)
        child = os.fork()
        if not child:
            code = 1
            try:
                os.setgid(OTHER)
                os.setuid(OTHER)
                found = cache_folder.find(KEY, NAME) == CONTENT
                code = 0 if found and not cache_folder.store(KEY, NAME, b"changed") else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        for folder, old in zip(private, before, strict=True):
            folder.chmod(old)


# --- where it is ---------------------------------------------------------------------------------------------------


def test_a_chosen_folder_is_the_only_one(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("SPARSE_RT_CACHE_DIR", raising=False)
    cache_folder.store(KEY, NAME, CONTENT)
    assert (tmp_path / "xdg" / "sparse_rt" / KEY / NAME).exists()
    monkeypatch.setenv("SPARSE_RT_CACHE_DIR", str(tmp_path / "chosen"))
    assert cache_folder.bases() == [tmp_path / "chosen"]
    assert cache_folder.find(KEY, NAME) is None


def test_an_empty_or_relative_choice(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("SPARSE_RT_CACHE_DIR", "")
    assert cache_folder.bases()[0] == tmp_path / "xdg" / "sparse_rt"
    monkeypatch.setenv("SPARSE_RT_CACHE_DIR", "here/cache")
    assert cache_folder.store(KEY, NAME, CONTENT)
    assert (tmp_path / "here" / "cache" / KEY / NAME).exists()
    monkeypatch.delenv("SPARSE_RT_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the standard says: not believed
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder.bases()[0] == tmp_path / ".cache" / "sparse_rt"


@needs_owners
def test_without_a_home_the_temporary_folder_serves(monkeypatch, tmp_path):
    def fail():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", fail)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("SPARSE_RT_CACHE_DIR", raising=False)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert cache_folder.store(KEY, NAME, CONTENT)
    assert mode(tmp_path / f"sparse_rt-{os.geteuid()}") == 0o700
    assert cache_folder.find(KEY, NAME) == CONTENT


def test_without_any_folder_nothing_is_kept(monkeypatch):
    def fail(*arguments):
        raise FileNotFoundError(errno.ENOENT, "no usable temporary directory found")

    monkeypatch.setattr(Path, "home", lambda: Path("/proc/none"))
    monkeypatch.setattr("tempfile.gettempdir", fail)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("SPARSE_RT_CACHE_DIR", raising=False)
    assert not cache_folder.store(KEY, NAME, CONTENT)
    assert cache_folder.find(KEY, NAME) is None


@pytest.mark.parametrize("path", ["a\0b", "x" * 300, "/dev/null/cache", "/proc/cache", "~nobody"])
def test_impossible_folders(monkeypatch, path, tmp_path):
    monkeypatch.chdir(tmp_path)
    if "\0" not in path:
        monkeypatch.setenv("SPARSE_RT_CACHE_DIR", path)
    else:
        monkeypatch.setattr(cache_folder, "bases", lambda: [Path("/") / path])
    if path != "~nobody":  # a name as any other
        assert not cache_folder.store(KEY, NAME, CONTENT)
        assert cache_folder.find(KEY, NAME) is None


# --- damage --------------------------------------------------------------------------------------------------------


def test_every_damaged_byte_is_noticed(kept):
    file = kept / KEY / NAME
    sealed = file.read_bytes()
    rng = random.Random(1)
    places = {*range(100), *(rng.randrange(len(sealed)) for _ in range(200)), len(sealed) - 1}
    for place in places:
        damaged = bytearray(sealed)
        damaged[place] ^= 1 << rng.randrange(8)
        file.write_bytes(damaged)
        assert cache_folder.find(KEY, NAME) is None, place
    for length in (0, 1, 50, 76, 77, len(sealed) - 1):
        file.write_bytes(sealed[:length])
        assert cache_folder.find(KEY, NAME) is None, length
    file.write_bytes(sealed + b"\0")
    assert cache_folder.find(KEY, NAME) is None
    file.write_bytes(sealed)
    assert cache_folder.find(KEY, NAME) == CONTENT


def test_a_whole_file_in_anothers_place_is_not_taken(kept):
    shutil.copy(kept / KEY / NAME, kept / KEY / "other")
    assert cache_folder.find(KEY, "other") is None
    shutil.copytree(kept / KEY, kept / "other key")
    assert cache_folder.find("other key", NAME) is None


@needs_owners
@pytest.mark.parametrize("kind", ["folder", "full folder", "FIFO", "loop", "dangling", "huge", "socket"])
def test_what_stands_in_a_files_place_is_not_read(kept, kind, monkeypatch):
    file = kept / KEY / NAME
    file.unlink()
    if kind.endswith("folder"):
        file.mkdir()
        if kind == "full folder":
            (file / "something").touch()
    elif kind == "FIFO":
        os.mkfifo(file)
    elif kind == "huge":
        monkeypatch.setattr(trusted_files, "LARGEST", 1 << 16)
        file.write_bytes(bytes((1 << 16) + 1))
    elif kind == "socket":
        import socket

        monkeypatch.chdir(file.parent)  # names of sockets are short
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(file.name)
    else:
        file.symlink_to(file if kind == "loop" else "nothing")
    assert cache_folder.find(KEY, NAME) is None
    assert cache_folder.store(KEY, NAME, CONTENT) == (not kind.endswith("folder"))
    assert not list((kept / KEY).glob(".*")), "no draft is left"


def test_drafts_of_killed_processes_go(kept):
    folder = kept / KEY
    old, new = folder / ".task.image.1.part", folder / ".task.image.2.part"
    for draft in (old, new):
        draft.touch()
    os.utime(old, (1, 1))
    trusted_files._drop_stale.cache_clear()
    cache_folder.store(KEY, NAME, CONTENT)
    assert not old.exists()
    assert new.exists(), "another process may be writing it"


def test_a_folder_that_is_deleted_meanwhile(kept):
    shutil.rmtree(kept)
    assert cache_folder.find(KEY, NAME) is None
    assert cache_folder.store(KEY, NAME, CONTENT)
    assert cache_folder.find(KEY, NAME) == CONTENT


# --- faults --------------------------------------------------------------------------------------------------------

FAULTS = ("open", "fstat", "stat", "mkdir", "chmod", "fchmod", "fdopen", "replace", "unlink", "readlink", "scandir")


class FaultyFile:
    """A file whose reads and writes fail."""

    def __init__(self, file, error):
        self.file = file
        self.error = error

    def __enter__(self):
        return self

    def __exit__(self, *arguments):
        self.file.close()

    def read(self, *arguments):
        raise self.error

    def write(self, *arguments):
        raise self.error


@needs_owners
@pytest.mark.parametrize("seed", range(40))
def test_any_call_may_fail_at_any_time(base, monkeypatch, seed):
    """Whatever fails, nothing is raised, nothing leaks, and what is found is what was stored."""
    rng = random.Random(seed)
    numbers = [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO, errno.EDQUOT, errno.EMFILE, errno.ESTALE]
    rate = rng.choice([0.02, 0.1, 0.3, 1.0])
    real = {name: getattr(os, name) for name in FAULTS}

    def faulty(name):
        def call(*arguments, **options):
            if faulty.is_on and rng.random() < rate:
                error = OSError(rng.choice(numbers), "injected") if rng.random() < 0.9 else MemoryError()
                if name == "fdopen" and rng.random() < 0.5:
                    return FaultyFile(real[name](*arguments, **options), error)
                raise error
            return real[name](*arguments, **options)

        return call

    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    with monkeypatch.context() as patched:
        for name in FAULTS:
            patched.setattr(trusted_files.os, name, faulty(name))
        for number in range(30):
            faulty.is_on = False
            if number % 10 == 9:
                shutil.rmtree(base, ignore_errors=True)
            faulty.is_on = True
            cache_folder.store(KEY, NAME, CONTENT)
            assert cache_folder.find(KEY, NAME) in (None, CONTENT)
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
    assert cache_folder.find(KEY, NAME) in (None, CONTENT)


def test_a_full_disk(kept):
    """Files may grow to 4 kB only, which the system reports as it does a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        assert not cache_folder.store(KEY, "other", CONTENT)
        assert cache_folder.find(KEY, NAME) == CONTENT
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in (kept / KEY).iterdir()] == [NAME]


def test_images_that_point_outside_themselves_are_not_loaded():
    """Their checksum may be right all the same: another version may have written them."""
    sound = Image(b"\xc3" * 16, 0, (8,), ((0, "abort"),), 8, (8,))
    wrong: list[dict[str, Any]] = [
        *({"entry": entry} for entry in (16, -1, True)),
        {"content": b""},
        *({"inner": (at,), "to_constants": ()} for at in (9, -8)),
        {"outer": ((9, "abort"),)},
        *({"code_size": size} for size in (17, -1, True)),
        {"to_constants": (7,)},
    ]
    for changes in wrong:
        assert machine_code.unpack(machine_code.pack(sound._replace(**changes))) is None
    good = machine_code.pack(sound)
    assert machine_code.unpack(good) == sound
    for content in (good[:8], good[8:], bytes(8), b"\xff" * 8, b"[" * 100000, (5).to_bytes(8, "little") + b"[1,2]"):
        assert machine_code.unpack(content) is None


# --- sessions ------------------------------------------------------------------------------------------------------

SESSION = """
import logging, sys
logging.disable(logging.CRITICAL)
import numpy as np, onnx, sparse_rt as srt
from onnx import TensorProto, helper, numpy_helper
w = np.zeros((16, 8), np.float32); w[::4] = 1; w[1::4] = 2
graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
    [helper.make_tensor_value_info("x", 1, [3, 16])], [helper.make_tensor_value_info("y", 1, [3, 8])],
    [numpy_helper.from_array(w, "w")])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
session = srt.InferenceSession(model, srt.SessionOptions(1, kernel_tier="generic", tuning="sparse"))
x = np.arange(48, dtype=np.float32).reshape(3, 16)
assert np.array_equal(session.run(None, {"x": x})[0], x @ w)
"""


def run_session(cache, **more):
    environment = {**os.environ, "SPARSE_RT_CACHE_DIR": str(cache), **more}
    done = subprocess.run(
        [sys.executable, "-c", SESSION], timeout=300, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.skipif(not machine_code.is_available(), reason="there are no images")
def test_a_session_survives_damage_of_every_kind(tmp_path):
    """Settings and images: each file is damaged in another way."""
    cache = tmp_path / "cache"
    run_session(cache)
    files = sorted(path for path in cache.rglob("*") if path.is_file())
    assert {path.suffix for path in files} == {".json", ".image"}
    rng = random.Random(1)
    for number, path in enumerate(files):
        content = bytearray(path.read_bytes())
        content[rng.randrange(len(content))] ^= 16
        path.unlink()
        if number % 5 == 0:
            path.mkdir()
        else:
            path.write_bytes([content[: len(content) // 2], content, b"", b"[" * 200_000][number % 5 - 1])
    run_session(cache)


def test_a_process_without_home_and_folders(tmp_path):
    (tmp_path / "file").write_text("no folder")
    own = {"SPARSE_RT_CACHE_DIR": str(tmp_path / "file" / "cache"), "HOME": "/nonexistent", "TMPDIR": "/nonexistent"}
    program = "from sparse_rt_kernels.threads import workers; assert workers.measure_pauses(3) == 0"
    environment = {**os.environ, **own}
    done = subprocess.run(
        [sys.executable, "-c", program], timeout=300, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("content", [b"", b"N.", b"not a pickle", b"\x80\x05]\x94.", b"(" * 10000])
def test_what_numba_does_not_understand_is_compiled_again(base, content):
    """Whole, ours, and written by another version."""
    numba = pytest.importorskip("numba")
    if numba.config.DISABLE_JIT:
        pytest.skip("nothing is compiled")
    function_cache = FunctionCache(KEY, "f", "identity")

    def make():
        def f(x):
            return x + 1

        made = numba.njit(f)
        made._cache = function_cache
        return made

    assert make()(1) == 2
    (file,) = (base / KEY).iterdir()
    good = file.read_bytes()
    again = make()
    assert again(1) == 2
    assert sum(again.stats.cache_hits.values()) == 1
    cache_folder.store(KEY, file.name, content)
    again = make()
    assert again(1) == 2
    assert sum(again.stats.cache_hits.values()) == 0
    assert file.read_bytes()[:12] == good[:12]
    again = make()
    assert again(1) == 2
    assert sum(again.stats.cache_hits.values()) == 1, "it was replaced"
