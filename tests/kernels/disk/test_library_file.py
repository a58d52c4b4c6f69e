"""Libraries on disk: whole, ours, found by a path, and never pulled from under whom uses them."""

import ctypes
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from sparse_rt_kernels.disk import cache_folder, library_file
from sparse_rt_kernels.disk.library_file import path_of
from sparse_rt_kernels.jit import machine_code
from sparse_rt_kernels.jit.object_file import Image
from sparse_rt_kernels.jit.shared_object import Block, shared_object

pytestmark = pytest.mark.skipif(not machine_code.is_available(), reason="x86-64 Linux")

KEY, NAME = "0123abcd", "libmade.so"
OTHER = 12345  # a user that is neither root nor the one who runs the tests

needs_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")

#: mov eax, 41; ret
CODE = Image(b"\xb8\x29\0\0\0\xc3".ljust(64, b"\0"), 0, (), (), 64, ())
CONTENT = shared_object({"answer": CODE}, [Block("word", bytes(8), is_writable=True)], [], ["answer", "word"], NAME)


class Maker:
    """Counts how often a library is made."""

    count = 0

    def __call__(self):
        self.count += 1
        return CONTENT


@pytest.fixture
def make():
    return Maker()


@pytest.fixture
def base(tmp_path, monkeypatch):
    """The only cache folder; it does not exist yet."""
    folder = tmp_path / "up" / "cache"
    monkeypatch.setenv("SPARSE_RT_CACHE_DIR", str(folder))
    monkeypatch.delenv("SPARSE_RT_CACHE_SHARED", raising=False)
    monkeypatch.setattr(library_file, "_in_memory", {})
    return folder


def works(path):
    """Load a library in a process of its own; return whether it is right."""
    program = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).answer())"
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=False)
    return done.stdout.strip() == "41"


def mode(path):
    return stat.S_IMODE(path.lstat().st_mode)


def test_it_is_made_once(base, make):
    path = path_of(KEY, NAME, make)
    assert path == base / KEY / NAME
    assert path_of(KEY, NAME, make) == path
    assert make.count == 1
    assert works(path)
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert path.read_bytes().startswith(CONTENT)


@pytest.mark.parametrize(
    "damage", ["first", "middle", "last", "short", "empty", "longer", "another's", "folder", "link"]
)
def test_what_is_damaged_is_made_again(base, make, damage, tmp_path):
    path = path_of(KEY, NAME, make)
    content = bytearray(path.read_bytes())
    if damage == "link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    elif damage == "another's":
        path_of(KEY, "other", lambda: CONTENT + b"\0")
        shutil.copy(path.with_name("other"), path)
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        if damage in ("first", "middle", "last"):
            content[{"first": 0, "middle": len(content) // 2, "last": -1}[damage]] ^= 1
        path.write_bytes({"short": content[:-1], "empty": b"", "longer": content + b"\0"}.get(damage, bytes(content)))
    again = path_of(KEY, NAME, make)
    assert make.count == 2
    if damage == "folder":
        assert str(again).startswith("/proc/self/fd/"), "nothing that is full of anything is removed"
    else:
        assert again == path
        assert not path.is_symlink()
        assert works(path)


@pytest.mark.parametrize("place", ["up", "base", "key", "file"])
def test_what_others_may_write_is_not_used(base, make, place):
    path = path_of(KEY, NAME, make)
    changed = {"up": base.parent, "base": base, "key": base / KEY, "file": path}[place]
    before = mode(changed)
    changed.chmod(before | stat.S_IWOTH)
    again = path_of(KEY, NAME, make)
    assert make.count == 2
    assert (again == path) == (place == "file"), "a file is replaced; a folder is left alone"
    if place == "file":
        assert mode(path) == 0o600
    else:
        assert str(again).startswith("/proc/self/fd/")
    assert ctypes.CDLL(str(again)).answer() == 41


@needs_root
@pytest.mark.parametrize("place", ["base", "key", "file"])
def test_what_belongs_to_another_user_is_not_used(base, make, place):
    path = path_of(KEY, NAME, make)
    os.chown({"base": base, "key": base / KEY, "file": path}[place], OTHER, OTHER)
    again = path_of(KEY, NAME, make)
    assert make.count == 2
    assert (again == path) == (place == "file")
    if place == "file":
        assert path.stat().st_uid == 0


def test_a_library_in_use_survives_its_removal_and_its_replacement(base, make):
    path = path_of(KEY, NAME, make)
    library = ctypes.CDLL(str(path))
    word = ctypes.c_int64.in_dll(library, "word")
    word.value = 5
    shutil.rmtree(base)
    assert library.answer() == 41
    again = path_of(KEY, NAME, make)
    assert (again, make.count) == (path, 2)
    assert ctypes.c_int64.in_dll(ctypes.CDLL(str(again)), "word").value == 5, "the same object by the same path"
    path.write_bytes(b"damaged")  # by somebody else, into the new file; ours is another one
    assert path_of(KEY, NAME, make) == path
    assert (library.answer(), word.value) == (41, 5)


@pytest.mark.parametrize("why", ["nowhere", "noexec", "full"])
def test_without_a_folder_it_is_in_memory(base, make, why, monkeypatch):
    if why == "nowhere":
        monkeypatch.setattr(cache_folder, "bases", list)
    elif why == "full":
        monkeypatch.setattr(cache_folder, "write", lambda places, content: False)
    else:
        found = os.statvfs("/")
        flags = type("Found", (), {"f_flag": found.f_flag | os.ST_NOEXEC})
        monkeypatch.setattr(library_file.os, "statvfs", lambda folder: flags)
    path = path_of(KEY, NAME, make)
    assert path.parent == Path("/proc/self/fd")
    assert path_of(KEY, NAME, make) == path
    assert make.count == 1
    assert ctypes.CDLL(str(path)).answer() == 41
    assert not base.exists()


PROGRAM = """
import sys
from tests.kernels.disk.test_library_file import CONTENT, KEY, NAME
from sparse_rt_kernels.disk.library_file import path_of
for number in range(50):
    path = path_of(KEY, NAME, lambda: CONTENT)
    if number % 10 == 9:
        path.unlink(missing_ok=True)
print(path)
"""


def test_processes_at_once(base):
    """Each removes the file now and then."""
    command = [sys.executable, "-c", PROGRAM]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        assert out.strip() == str(base / KEY / NAME)
    assert works(path_of(KEY, NAME, lambda: CONTENT))
    assert not [path for path in base.rglob(".*") if path.is_file()], "no drafts are left"
