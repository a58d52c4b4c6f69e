"""Machine code on disk: found again without Numba, whatever happened to the files, whoever else writes them."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core import config
from sparse_rt_kernels.jit import compilation, machine_code
from sparse_rt_kernels.jit.object_file import Image, UnknownObjectError, lay_out

pytestmark = [
    pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled"),
    pytest.mark.skipif(not machine_code.is_available(), reason="x86-64 Linux"),
]

#: Prints whether Numba was needed. measure_pauses is the smallest function there is.
PROGRAM = """
import sys
from sparse_rt_kernels.threads import workers
assert workers.measure_pauses(3) == 0
print("numba" in sys.modules)
"""


def start(cache, home=None, **more):
    environment = {**os.environ, "SPARSE_RT_CACHE_DIR": str(cache), "XDG_CACHE_HOME": str(home or cache), **more}
    environment.pop("NUMBA_BOUNDSCHECK", None)
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def needs_numba(*args, **kwargs):
    """Run the program in a new process; return what it printed."""
    process = start(*args, **kwargs)
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-2000:]
    return out.strip() == "True"


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A cache that holds what the program needs."""
    cache = tmp_path_factory.mktemp("warm")
    assert needs_numba(cache)
    return cache


@pytest.fixture
def cache(warm, tmp_path):
    copy = tmp_path / "cache"
    shutil.copytree(warm, copy)
    return copy


def images(cache):
    return list(cache.rglob("*.image"))


def test_a_second_process_does_without_numba(cache):
    assert len(images(cache)) == 1
    assert not needs_numba(cache)


def test_a_session_imports_no_compiler():
    program = "import sys, sparse_rt.session; print({'numba', 'llvmlite.binding', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "header"])
def test_damaged_files_are_compiled_again(cache, damage):
    (file,) = images(cache)
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[-1] ^= 1
    elif damage == "header":
        content[40] ^= 1
    else:
        del content[0 if damage == "empty" else len(content) // 2 :]
    file.write_bytes(content)
    assert needs_numba(cache)
    assert not needs_numba(cache), "the damaged file was replaced"


@pytest.mark.parametrize("content", ["{", '["znver5"]', '["a", 1, 2, 3, 4]'])
def test_damaged_settings_are_asked_for_again(cache, content):
    (file,) = (cache / "hosts").iterdir()
    file.write_text(content)
    assert needs_numba(cache)
    assert not needs_numba(cache)


def test_processes_may_compile_at_once(tmp_path):
    processes = [start(tmp_path) for _ in range(4)]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-2000:]
    assert len(images(tmp_path)) == 1
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()], "no drafts are left"
    assert not needs_numba(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("what", ["everything", "images"])
def test_code_of_another_user_is_not_run(cache, what):
    for path in (cache, *cache.rglob("*")):
        if what == "everything" or path.suffix == ".image":
            os.chown(path, 12345, 12345)
    assert needs_numba(cache)


@pytest.mark.parametrize("what", ["base", "image"])
def test_code_that_others_may_write_is_not_run(cache, what):
    (image,) = images(cache)
    path = cache if what == "base" else image
    path.chmod(path.stat().st_mode | stat.S_IWOTH)
    assert needs_numba(cache)


def test_a_cache_that_cannot_be_written_is_read(cache, tmp_path):
    """In a container's image, say. Root writes everywhere: then its folders stand in a file's place instead."""
    home = tmp_path / "home"
    home.write_text("no folder can be made here")
    for path in (cache, *cache.rglob("*")):
        path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert not needs_numba(cache, home)


def test_without_any_folder_a_process_compiles_for_itself(tmp_path):
    nowhere = tmp_path / "file"
    nowhere.write_text("no folder can be made here")
    assert needs_numba(nowhere, nowhere)


def test_other_settings_of_numba_are_another_host(cache):
    assert needs_numba(cache, NUMBA_CPU_NAME="generic", SPARSE_RT_TIER="")


def test_changed_sources_are_compiled_again(warm, tmp_path):
    """The package is copied, and a comment added to a file that holds none of the functions."""
    package = Path(compilation.__file__).parent.parent
    shutil.copytree(package, tmp_path / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    cache = tmp_path / "cache"
    shutil.copytree(warm, cache)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    assert not needs_numba(cache, PYTHONPATH=path)
    with (tmp_path / package.name / "vectors" / "registers.py").open("a") as file:
        file.write("# changed\n")
    assert needs_numba(cache, PYTHONPATH=path)


def test_images_survive_their_file():
    assert machine_code.unpack(b"") is None
    image = Image(b"\xc3" * 8, 0, (), (), 8, ())
    assert machine_code.unpack(machine_code.pack(image)) == image


def test_what_is_no_object_file_is_refused():
    for content in (b"", b"\x7fELF\x02\x01" + bytes(58), b"MZ" + bytes(80)):
        with pytest.raises(UnknownObjectError):
            lay_out(content, "f")


def test_images_with_unknown_functions_are_not_loaded():
    image = Image(bytes(16), 0, (), ((0, "no_such_function_anywhere"),), 16, ())
    assert not machine_code.can_load(image)
    with pytest.raises(OSError, match="no_such_function_anywhere"):
        machine_code.load(image)


def made(number):
    def task(task, arguments, x, other, out, shared, scratch):
        return number

    task.__module__ = "sparse_rt_kernels.made"
    return task


def test_names_tell_what_functions_capture():
    names = {compilation._name(made(value)) for value in (0, 1, 1.0, True, "1", b"1", (1,), None, made(0), made(1))}
    assert len(names) == 10
    assert compilation._name(made(1)) == compilation._name(made(1))
    assert compilation._name(made([])) is None, "a list may change"


def test_functions_of_other_packages_are_not_kept():
    """The key tells nothing of their sources."""
    task = made(0)
    task.__module__ = __name__
    assert compilation._name(task) is None
