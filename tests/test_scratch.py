"""Scratch folders vanish with their owner, however it ends."""

import os
import subprocess
import sys

import pytest

from sparse_rt.scratch import ScratchFolder


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_it_lasts_as_long_as_its_block(temporary):
    with ScratchFolder("test") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text("content")
        assert folder.stat().st_mode & 0o777 == 0o700
    assert list(temporary.iterdir()) == []


def test_it_lasts_as_long_as_its_object(temporary):
    folder = ScratchFolder("test")
    assert folder.path.is_dir()
    del folder
    assert list(temporary.iterdir()) == []


def test_a_forked_child_leaves_it(temporary):
    with ScratchFolder("test") as folder:
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        assert folder.is_dir()


def test_folders_of_killed_processes_are_removed(temporary):
    code = "import os, sparse_rt.scratch as s; folder = s.ScratchFolder('test'); os.kill(os.getpid(), 9)"
    environment = {**os.environ, "TMPDIR": str(temporary)}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert killed.returncode == -9
    (temporary / "sparse_rt-of-another-program").mkdir()
    with ScratchFolder("alive") as alive:
        with ScratchFolder("test"):
            assert alive.is_dir()
        assert sorted(temporary.iterdir()) == sorted([alive, temporary / "sparse_rt-of-another-program"])
