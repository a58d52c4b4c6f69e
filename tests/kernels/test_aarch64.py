"""The portable kernels compile for aarch64. Nothing here can run them: that tier is untested on ARM."""

import os
import subprocess
import sys
import textwrap

import llvmlite.binding as llvm
import pytest
from numba.core import config

PROGRAM = textwrap.dedent(
    """
    import gc, re
    import llvmlite.binding as llvm
    import numpy as np
    from numba.core.dispatcher import Dispatcher
    from sparse_rt_kernels.product import registry
    from sparse_rt_kernels.threads.pool import ThreadPool
    from tests.kernels import conformance as conf

    TRIPLE = "aarch64-unknown-linux-gnu"
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(TRIPLE).create_target_machine(cpu="generic", opt=2)

    for dtype in ("u8s8", "f32"):
        kernel = registry.select(dtype, "n2m4")
        assert kernel.isa == "generic"
        rng = np.random.default_rng(0)
        w = conf.weight_for(kernel, rng, (8, 16, 1, 1))
        x = conf.activations(rng, np.float32 if dtype == "f32" else np.uint8, (4, 16))
        out = np.empty((4, 8), conf.sums_only(kernel, 8)[1])
        kernel.matmul(x, conf.pack(kernel, w), conf.sums_only(kernel, 8)[0], out, ThreadPool(1))

    # Numba shows a function's IR after x86 code generation, which has put its own "decrease and tell if zero" in.
    DECREASE = re.compile(
        r"(%[\\w.]+) = (?:tail )?call i8 @llvm.x86.atomic.sub.cc.i64\\(ptr (?:\\w+ )*([^ ,]+), i64 1, i32 4\\)[^\\n]*"
    )

    def plain(found):
        result, place = found.groups()
        was, last = (f"%plain.{result[1:]}.{part}" for part in ("was", "last"))
        return (
            f"{was} = atomicrmw sub ptr {place}, i64 1 monotonic\\n"
            f"{last} = icmp eq i64 {was}, 1\\n"
            f"{result} = zext i1 {last} to i8"
        )

    for function in [found for found in gc.get_objects() if isinstance(found, Dispatcher)]:
        name = function.py_func.__name__
        if not function.py_func.__module__.endswith((".portable", ".f32.n2m4")):
            continue
        for text in function.inspect_llvm().values():
            text = re.sub(r"target (datalayout|triple) = .*", "", DECREASE.sub(plain, text))
            text = re.sub(r'"target-(cpu|features)"="[^"]*"', "", text)
            module = llvm.parse_assembly(f'target triple = "{TRIPLE}"\\n' + text)
            code = machine.emit_assembly(module)
            vectors = len(re.findall(r"\\bv\\d+\\.(?:4s|8h|16b|2d)", code))
            print(name, len(code.splitlines()), vectors)
    """
)


def has_aarch64():
    try:
        llvm.initialize_all_targets()
        llvm.Target.from_triple("aarch64-unknown-linux-gnu")
    except (RuntimeError, AttributeError):
        return False
    return True


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")
@pytest.mark.skipif(not has_aarch64(), reason="this LLVM has no aarch64 target")
def test_portable_kernels_compile_for_aarch64(tmp_path):
    """In a process of its own, because LLVM aborts on what it cannot select."""
    own = {"NUMBA_CPU_NAME": "generic", "SPARSE_RT_CACHE_DIR": str(tmp_path)}
    kept = {name: value for name, value in os.environ.items() if name not in ("SPARSE_RT_TIER", "NUMBA_CPU_FEATURES")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**kept, **own}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    compiled = {name: (int(lines), int(vectors)) for name, lines, vectors in map(str.split, done.stdout.splitlines())}
    assert {"multiply_block", "add_skipping"} <= set(compiled)
    assert all(vectors > 0 for name, (_, vectors) in compiled.items() if name in ("multiply_block", "add_skipping"))
