"""Shared objects of our own: loaded without Python, nothing written that is run, every address where it belongs."""

import ctypes
import json
import math
import os
import shutil
import struct
import subprocess
import sys
from typing import Any

import numba
import numpy as np
import pytest
from numba.core import config
from sparse_rt_kernels.jit import machine_code
from sparse_rt_kernels.jit.compilation import compiled_image
from sparse_rt_kernels.jit.elf import HEADER, SYMBOL
from sparse_rt_kernels.jit.object_file import Image
from sparse_rt_kernels.jit.relaxed import relaxed
from sparse_rt_kernels.jit.shared_object import Block, LinkError, Pointer, Stub, shared_object

pytestmark = [
    pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled"),
    pytest.mark.skipif(not machine_code.is_available(), reason="x86-64 Linux"),
]

PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
LOAD, DYNAMIC, STACK = 1, 2, 0x6474E551
RUN, WRITE = 1, 2
NEEDED, NAMES, SYMBOLS, HASH, TEXTREL, FLAGS = 1, 5, 6, 4, 22, 30


def shuffled(number: int, second: int) -> int:
    return number * 1000 + second


def chosen(number: int, second: int) -> int:
    """A table of places to jump to."""
    if number == 0:
        return second + 7
    if number == 1:
        return second * second
    if number == 2:
        return second // 3
    if number == 3:
        return second ^ 0x55
    if number == 4:
        return second << 3
    if number == 5:
        return -second
    if number == 6:
        return second & 0xF0
    return 1


def cleared(address: int, count: int) -> int:
    """Calls memset."""
    array = numba.carray(address, count, np.int64)
    for at in range(count):
        array[at] = 0
    return count


def exponential(number: int, second: int) -> int:
    """Calls expf."""
    return int(math.exp(np.float32(number) / np.float32(second)) * 1000)


def first_word(address: int, count: int) -> int:
    return int(numba.carray(address, count, np.int64)[count - 1])


FUNCTIONS = {function.__name__: function for function in (shuffled, chosen, cleared, exponential, first_word)}
POINTERS = {"cleared": 0, "first_word": 0}
CALLS = [("shuffled", 3, 4), *(("chosen", number, 77) for number in range(-1, 9)), ("exponential", 3, 2)]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Images of the functions above, as those of the package are made."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SPARSE_RT_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        found = {}
        for name, function in FUNCTIONS.items():
            patched.setattr(function, "__module__", "sparse_rt_kernels.made")
            found[name] = compiled_image(function, 2, POINTERS.get(name))
            assert compiled_image(function, 2, POINTERS.get(name)) == found[name], "kept"
    return found


@pytest.fixture(scope="module")
def whole(images):
    """An object of all of them, a table of pointers, and words to read and write."""
    blocks = [
        Block("numbers", struct.pack("<3q", 11, 22, 33)),
        Block("written", struct.pack("<2q", 5, 6), is_writable=True, pointers=(Pointer(8, "table"),)),
        Block("table", bytes(40), pointers=(Pointer(0, "numbers", 16), Pointer(8, "chosen"), Pointer(24, "third"))),
        Block("unaligned", bytes(19), pointers=(Pointer(3, "written"),)),
    ]
    stubs = [
        Stub("third", "first_word", 0, "numbers"),
        *(Stub(f"passed{number}", f"got{number}", number, "numbers") for number in range(6)),
    ]
    codes = {**images, **{f"got{number}": argument(number) for number in range(6)}}
    exports = [*FUNCTIONS, "numbers", "written", "table", "unaligned", *(stub.name for stub in stubs)]
    return shared_object(codes, blocks, stubs, exports, "libmade.so")


def argument(number):
    """A function that returns one of its arguments: mov rax, register; ret."""
    move = ("4889f8", "4889f0", "4889d0", "4889c8", "4c89c0", "4c89c8")[number]
    content = bytes.fromhex(move) + b"\xc3"
    return Image(content.ljust(64, b"\0"), 0, (), (), 64, ())


# --- what the file says of itself ----------------------------------------------------------------------------------


def segments(content):
    start, count = HEADER.unpack_from(content)[5], HEADER.unpack_from(content)[10]
    return [PROGRAM_HEADER.unpack_from(content, start + number * PROGRAM_HEADER.size) for number in range(count)]


def dynamic(content):
    """Return (kind, value) of the dynamic table."""
    _, _, start, _, _, size, _, _ = next(each for each in segments(content) if each[0] == DYNAMIC)
    return [struct.unpack_from("<QQ", content, at) for at in range(start, start + size, 16)]


def name_at(content, offset):
    start = dict(dynamic(content))[NAMES] + offset
    return content[start : content.index(b"\0", start)].decode()


def symbols(content):
    """Return {name: section} of the dynamic symbols."""
    table = dict(dynamic(content))
    count = struct.unpack_from("<II", content, table[HASH])[1]
    found = (SYMBOL.unpack_from(content, table[SYMBOLS] + number * SYMBOL.size) for number in range(1, count))
    return {name_at(content, each[0]): each[3] for each in found}


def test_nothing_is_both_written_and_run(whole):
    loaded = [each for each in segments(whole) if each[0] == LOAD]
    assert [each[1] for each in loaded] == [4, 5, 6]
    assert all(start == address and start % 4096 == 0 for _, _, start, address, _, _, _, _ in loaded)
    assert [each[1] & RUN for each in segments(whole) if each[0] == STACK] == [0]
    kinds = {kind for kind, _ in dynamic(whole)}
    assert not kinds & {TEXTREL, FLAGS}


def test_only_the_c_library_is_imported(whole):
    found = symbols(whole)
    assert {name for name, section in found.items() if section == 0} == {"memset", "expf"}
    assert {name_at(whole, value) for kind, value in dynamic(whole) if kind == NEEDED} == {"libc.so.6", "libm.so.6"}


def test_the_same_input_gives_the_same_bytes(images):
    made = [
        shared_object(images, [Block("b", b"12345678")], [], ["b", *names], "l")
        for names in ([*images], [*images][::-1])
    ]
    assert made[0] == made[1]


def test_tools_read_it(whole, tmp_path):
    if shutil.which("readelf") is None:
        pytest.skip("no readelf")
    file = tmp_path / "libmade.so"
    file.write_bytes(whole)
    done = subprocess.run(["readelf", "-Wd", "-l", "-r", "-D", "-s", file], capture_output=True, text=True, check=True)
    assert "Warning" not in done.stdout + done.stderr
    assert "Error" not in done.stdout + done.stderr
    assert "libmade.so" in done.stdout


# --- what it does --------------------------------------------------------------------------------------------------

#: Loads an object in a process that has none of our modules, and calls it.
PROGRAM = """
import ctypes, json, sys
library = ctypes.CDLL(sys.argv[1])
done = []
for name, *words in json.loads(sys.argv[2]):
    function = getattr(library, name)
    function.restype, function.argtypes = ctypes.c_int64, (ctypes.c_int64,) * 2
    done.append(function(*words))
assert not {"numpy", "numba", "sparse_rt_kernels"} & set(sys.modules)
print(json.dumps(done))
"""


@pytest.fixture(scope="module")
def file(whole, tmp_path_factory):
    path = tmp_path_factory.mktemp("library") / "libmade.so"
    path.write_bytes(whole)
    return path


@pytest.fixture
def library(file):
    return ctypes.CDLL(str(file))


def call(library, name, *words):
    function = getattr(library, name)
    function.restype, function.argtypes = ctypes.c_int64, (ctypes.c_int64,) * len(words)
    return function(*words)


def test_a_process_without_our_modules_gets_the_same(file):
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, str(file), json.dumps(CALLS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == [FUNCTIONS[name](*words) for name, *words in CALLS]


C_PROGRAM = """
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
int main(int count, char **words) {
    void *library = dlopen(words[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) { puts(dlerror()); return 1; }
    int64_t (*chosen)(int64_t, int64_t) = dlsym(library, "chosen");
    int64_t (*exponential)(int64_t, int64_t) = dlsym(library, "exponential");
    int64_t (*third)(int64_t, int64_t) = dlsym(library, "third");
    int64_t *written = dlsym(library, "written"), **table = dlsym(library, "table");
    *written += 1;
    printf("%ld %ld %ld %ld %ld\\n", chosen(3, 77), exponential(3, 2), third(0, 3), *written, *table[0]);
    return dlclose(library);
}
"""


def test_a_program_without_python_gets_the_same(file, tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    (tmp_path / "main.c").write_text(C_PROGRAM)
    subprocess.run(["gcc", "-o", tmp_path / "main", tmp_path / "main.c", "-ldl"], check=True)
    environment = {**os.environ, "LD_BIND_NOW": "1"}
    done = subprocess.run(
        [tmp_path / "main", file], timeout=60, capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.split() == [str(each) for each in (chosen(3, 77), exponential(3, 2), 33, 6, 33)]


def test_memory_is_cleared(library):
    words = (ctypes.c_int64 * 100)(*range(100))
    assert call(library, "cleared", ctypes.addressof(words), 99) == 99
    assert list(words) == [0] * 99 + [99]


@pytest.mark.parametrize("number", range(6))
def test_a_stub_passes_a_block(library, number):
    words = [100, 101, 102, 103, 104, 105]
    numbers = ctypes.addressof(ctypes.c_int64.in_dll(library, "numbers"))
    assert call(library, f"passed{number}", *words) == numbers
    assert numbers % 64 == 0


def test_pointers_point(library):
    numbers = ctypes.addressof(ctypes.c_int64.in_dll(library, "numbers"))
    written = (ctypes.c_int64 * 2).in_dll(library, "written")
    table = (ctypes.c_int64 * 5).in_dll(library, "table")
    assert list(table) == [numbers + 16, address(library.chosen), 0, address(library.third), 0]
    assert list(written) == [5, ctypes.addressof(table)]
    odd = bytes((ctypes.c_char * 19).in_dll(library, "unaligned"))
    assert odd == bytes(3) + struct.pack("<q", ctypes.addressof(written)) + bytes(8)
    written[0] = 9


def address(function):
    return ctypes.cast(function, ctypes.c_void_p).value


def test_what_the_loader_wrote_cannot_be_written(file):
    program = "import ctypes, sys; ctypes.c_int64.in_dll(ctypes.CDLL(sys.argv[1]), sys.argv[2]).value = 1"
    results = {}
    for block in ("written", "table", "numbers"):
        done = subprocess.run([sys.executable, "-c", program, file, block], check=False, timeout=60)
        results[block] = done.returncode
    assert results == {"written": 0, "table": -11, "numbers": -11}


def test_an_object_without_data_of_its_own_loads(tmp_path):
    path = tmp_path / "small.so"
    path.write_bytes(shared_object({"f": argument(1)}, [], [], ["f"], "small.so"))
    assert call(ctypes.CDLL(str(path)), "f", 1, 2) == 2


# --- code ----------------------------------------------------------------------------------------------------------


def test_a_table_of_places_is_taken_out_of_the_code(images):
    done = relaxed(images["chosen"], frozenset())
    assert done.own_words, "choose a function that LLVM makes a table for"
    assert not done.to_symbols


#: Runs models; with a path, on the code of a library made of all images that the cache holds, as far as it takes them.
SESSIONS = """
import ctypes, pathlib, sys
import numpy as np, sparse_rt as srt
from sparse_rt_kernels.disk import cache_folder
from sparse_rt_kernels.jit import compilation, machine_code
from sparse_rt_kernels.jit.shared_object import LinkError, shared_object
folder, library, *models = sys.argv[1:]
taken = 0
if library:
    key, found = compilation.cache_key(), {}
    for file in sorted((pathlib.Path(folder) / key).glob("*.image")):
        image = machine_code.unpack(cache_folder.find(key, file.name))
        try:
            shared_object({file.name: image}, [], [], [], "l")
        except LinkError:
            continue
        found[file.name] = image
    pathlib.Path(library).write_bytes(shared_object(found, [], [], found, "l"))
    made = ctypes.CDLL(library)
    addresses = {image: ctypes.cast(getattr(made, name), ctypes.c_void_p).value for name, image in found.items()}
    load = machine_code.load
    def replaced(image):
        global taken
        taken += image in addresses
        return addresses.get(image) or load(image)
    machine_code.load = replaced
for model in models:
    session = srt.InferenceSession(model, srt.SessionOptions(intra_op_num_threads=1))
    rng = np.random.default_rng(5)
    for batch in (1, 3):
        feeds = {each.name: rng.standard_normal((batch, *each.shape[1:]), np.float32) for each in session.get_inputs()}
        print([output.tobytes().hex() for output in session.run(None, feeds)])
print(taken, file=sys.stderr)
"""


def test_sessions_compute_the_same_on_the_code_of_a_library(files, tmp_path):
    """Kernels as they are, with tables and constants of vectors, float32 and int8."""
    environment = {**os.environ, "SPARSE_RT_CACHE_DIR": str(tmp_path / "cache")}
    arguments = [sys.executable, "-c", SESSIONS, tmp_path / "cache"]
    models = [files["pruned"], files["int8_compressed"]]
    results = []
    for library in ("", tmp_path / "all.so"):
        command = [*arguments, library, *models]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600, env=environment)
        results.append(done)
    assert results[0].stdout == results[1].stdout
    assert results[0].stdout.count("[") == 4
    assert int(results[1].stderr) >= 3


def movabs(register, value):
    return bytes((0x48 | register >> 3, 0xB8 | register & 7)) + struct.pack("<q", value)


@pytest.mark.parametrize("register", range(16))
@pytest.mark.parametrize("symbol", [None, "memset", "PyErr_Clear"])
def test_every_register_is_named_as_before(register, symbol, tmp_path):
    """movabs register, address; mov rax, register; ret."""
    code = b"\x54\x59" + movabs(register, 0) + bytes((0x48 | register >> 3 << 2, 0x89, 0xC0 | (register & 7) << 3))
    # The stack's register comes back, and registers that belong to the caller.
    code = (
        b"\x53\x55\x41\x54\x41\x55\x41\x56\x41\x57" + code + b"\x48\x89\xcc\x41\x5f\x41\x5e\x41\x5d\x41\x5c\x5d\x5b\xc3"
    )
    if register == 1:
        code = code.replace(b"\x54\x59", b"\x54\x5a").replace(b"\x48\x89\xcc", b"\x48\x89\xd4")
    at = code.index(movabs(register, 0)) + 2
    inner, outer = ((at,), ()) if symbol is None else ((), ((at, symbol),))
    image = Image(code.ljust(64, b"\x90") + struct.pack("<q", 4321), 0, inner, outer, 64, inner)
    if symbol is None:
        words = bytearray(image.content)
        words[at : at + 8] = struct.pack("<q", 64)
        image = image._replace(content=bytes(words))
    path = tmp_path / f"r{register}.so"
    path.write_bytes(shared_object({"f": image}, [], [], ["f"], path.name))
    found = call(ctypes.CDLL(str(path)), "f")
    if symbol is None:
        assert ctypes.c_int64.from_address(found).value == 4321
    elif symbol == "memset":
        words = (ctypes.c_char * 4)(*b"abcd")
        ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)(found)(words, 0x78, 3)
        assert bytes(words) == b"xxxd"
    else:
        assert ctypes.string_at(found, 2) == b"\x0f\x0b"


def test_a_table_before_its_first_entry():
    """LLVM may name a place before a table whose first index is not 0; that place is code's by its number alone."""
    content = movabs(0, 64 - 16).ljust(64, b"\x90") + bytes(8)
    done = relaxed(Image(content, 0, (2,), (), 64, (2,)), frozenset())
    assert done.to_own == ((3, True, -16),)


def image(**changes: Any) -> Image:
    base = Image(movabs(0, 0).ljust(64, b"\x90"), 0, (), (), 64, ())
    return base._replace(**changes)


MISTAKES = {
    "no movabs": ({"f": image(content=bytes(64), inner=(2,))}, [], [], []),
    "at the very beginning": ({"f": image(inner=(0,))}, [], [], []),
    "Python": ({"f": image(outer=((2, "PyLong_AsSsize_t"),))}, [], [], []),
    "unknown": ({"f": image(outer=((2, "system"),))}, [], [], []),
    "imported constant": ({"f": image(content=bytes(128), outer=((64, "memset"),))}, [], [], []),
    "twice": ({"f": image()}, [Block("f", b"")], [], []),
    "nothing": ({}, [], [], ["f"]),
    "nowhere": ({}, [Block("b", bytes(8), pointers=(Pointer(0, "c"),))], [], []),
    "outside": ({}, [Block("b", bytes(8), pointers=(Pointer(1, "b"),))], [], []),
    "before": ({}, [Block("b", bytes(8), pointers=(Pointer(-1, "b"),))], [], []),
    "seventh argument": ({"f": image()}, [Block("b", b"")], [Stub("s", "f", 6, "b")], []),
    "stub of nothing": ({}, [Block("b", b"")], [Stub("s", "f", 0, "b")], []),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_refused(mistake):
    with pytest.raises(LinkError):
        shared_object(*MISTAKES[mistake], "l")


def test_functions_without_images_are_refused():
    with pytest.raises(LookupError, match="'test_functions_without_images_are_refused'"):
        compiled_image(test_functions_without_images_are_refused, 2)
