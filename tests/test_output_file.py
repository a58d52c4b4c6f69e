"""Files are replaced whole or not at all; special files, links, modes and what killed processes left."""

import os
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest

from sparse_rt.errors import ModelError, SparseRTError
from sparse_rt.output_file import open_output


def write(path, content=b"new"):
    with open_output(path) as file:
        file.write(content)


def write_half(path, failure):
    with open_output(path) as file:
        file.write(b"half")
        raise failure


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_a_new_file_has_the_mode_of_the_umask(tmp_path):
    for mask in (0o022, 0o077, 0o002):
        old = os.umask(mask)
        try:
            write(tmp_path / f"{mask}")
        finally:
            os.umask(old)
        assert stat.S_IMODE((tmp_path / f"{mask}").stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_a_replaced_file_keeps_its_mode(mode, tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    path.chmod(mode)
    write(path)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_replaced_file_keeps_its_owner(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    os.chown(path, 1234, 4321)
    write(path)
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)


def test_symbolic_links_are_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "target"
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("elsewhere/target")
    for content in (b"first", b"second"):  # the link leads nowhere, then to a file
        write(tmp_path / "one", content)
        assert target.read_bytes() == content
    assert (tmp_path / "one").is_symlink()
    assert names(tmp_path / "elsewhere") == ["target"]


@pytest.mark.parametrize("name", ["", "new/", "old/", "folder/"])
def test_paths_of_folders_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "old").write_bytes(b"old")
    with pytest.raises(ModelError, match="the path of a file, got"), open_output(name, ModelError, "model"):
        pass
    assert names(tmp_path) == ["folder", "old"]
    assert (tmp_path / "old").read_bytes() == b"old"


def test_what_is_written_through_cannot_seek():
    """A device tells positions that mean nothing: /dev/null is always at 0."""
    with open_output("/dev/null") as file:
        file.write(b"new")
        assert not file.seekable()
        with pytest.raises(OSError, match="tell"):
            file.tell()
        with pytest.raises(OSError, match="seek"):
            file.seek(0)


def test_a_circle_of_links(tmp_path):
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(SparseRTError, match="can be written"):
        write(tmp_path / "one")


def test_devices_are_written_through():
    before = os.stat("/dev/null")
    write("/dev/null")
    after = os.stat("/dev/null")
    assert stat.S_ISCHR(after.st_mode)
    assert before.st_ino == after.st_ino
    with pytest.raises(ModelError, match="No space left"), open_output("/dev/full", ModelError, "model") as file:
        file.write(b"new")


def test_a_fifo_is_written_through(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    found = []
    reader = threading.Thread(target=lambda: found.append(path.read_bytes()))
    reader.start()
    write(path)
    reader.join(10)
    assert found == [b"new"]
    assert path.is_fifo()
    assert names(tmp_path) == ["fifo"]


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output(name, tmp_path):
    """Whether it is a pipe or a file, in which what was written before stays."""
    code = f"from tests.test_output_file import write; print('a', flush=True); write({name!r}, b'b'); print('c')"
    run = [sys.executable, "-c", code]
    assert subprocess.run(run, check=True, capture_output=True).stdout == b"a\nbc\n"
    path = tmp_path / "out"
    with path.open("ab") as file:
        subprocess.run(run, check=True, stdout=file)
    assert path.read_bytes() == b"a\nbc\n"
    path.write_bytes(b"")
    with path.open("wb") as file:  # at its own offset, without O_APPEND
        subprocess.run(run, check=True, stdout=file)
    assert path.read_bytes() == b"a\nbc\n"
    assert names(tmp_path) == ["out"]


def test_errors_name_the_file_and_leave_the_old_one(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    for failure in (OSError(28, "No space left on device"), KeyboardInterrupt()):
        with pytest.raises((SparseRTError, KeyboardInterrupt)) as caught:
            write_half(path, failure)
        assert isinstance(failure, KeyboardInterrupt) or str(path) in str(caught.value)
        assert path.read_bytes() == b"old"
        assert names(tmp_path) == ["out"]
    for wrong in (tmp_path, tmp_path / "no" / "folder", path / "below", tmp_path / ("x" * 300)):
        with pytest.raises(SparseRTError, match="can be written"):
            write(wrong)
    assert names(tmp_path) == ["out"]


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    code = (
        "import sys, time\n"
        "from sparse_rt.output_file import open_output\n"
        "with open_output(sys.argv[1]) as file:\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    path, other = tmp_path / "out", tmp_path / ".out.onnx.part"
    other.write_bytes(b"somebody else's")
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    try:
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2
        assert len(names(tmp_path)) == 3
        write(path)  # both are alive: theirs stay
        assert len(names(tmp_path)) == 4
        processes[0].send_signal(signal.SIGKILL)
        processes[0].wait()
        write(path)
        assert len(names(tmp_path)) == 3
    finally:
        for process in processes:
            process.kill()
            process.wait()
    write(path)
    assert names(tmp_path) == [".out.onnx.part", "out"]


def test_many_writers_of_one_file(tmp_path):
    path = tmp_path / "out"
    contents = [bytes([number]) * 100_000 for number in range(8)]
    end, failures = time.monotonic() + 1, []

    def work(content):
        try:
            while time.monotonic() < end:
                write(path, content)
                assert path.read_bytes() in contents
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert names(tmp_path) == ["out"]
