"""``examples/c/run.c``: compile it, and let it run a model in a process that has no Python in it."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np

SOURCE = Path(__file__).resolve().parents[2] / "examples" / "c" / "run.c"
COMPILER = shutil.which("gcc") or shutil.which("cc")


def installed_runtime():
    """The onnxruntime of this Python as a library of C; None where its package has it in its Python module only."""
    package = importlib.util.find_spec("onnxruntime")
    found = sorted((Path(package.origin).parent / "capi").glob("libonnxruntime.so*"))
    return found[0] if found else None


def build(folder):
    """Compile; warnings are errors. Return the program."""
    program = folder / "run"
    command = [
        COMPILER,
        "-std=c11",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Wpedantic",
        "-Werror",
        str(SOURCE),
        "-o",
        str(program),
    ]
    subprocess.run([*command, "-ldl", "-lm"], check=True, capture_output=True, text=True, timeout=120)
    return program


def run(program, runtime, model, folder, feeds=(), expected=(), saved=(), **options):
    """Run `model` on `feeds`, hold its outputs against `expected`, and write those of `saved` (name: path).

    Further options go to the program by name.
    """
    command = [str(program), str(runtime), str(model)]
    for key, value in options.items():
        command += [f"--{key}", str(value)]
    for name, array in dict(feeds).items():
        file = folder / f"input-{len(command)}.raw"
        file.write_bytes(np.ascontiguousarray(array).tobytes())
        shape = ",".join(map(str, array.shape))
        command += ["--input", f"{name}={file}", *(["--shape", f"{name}={shape}"] if shape else [])]
    for name, array in dict(expected).items():
        file = folder / f"expected-{len(command)}.raw"
        file.write_bytes(np.ascontiguousarray(array).tobytes())
        command += ["--expect", f"{name}={file}"]
    for name, path in dict(saved).items():
        command += ["--save", f"{name}={path}"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
