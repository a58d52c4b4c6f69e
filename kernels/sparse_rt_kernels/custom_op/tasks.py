"""How onnxruntime's threads run the tasks of a launch."""

from typing import Any, Final

from sparse_rt_kernels.custom_op import c_api, native
from sparse_rt_kernels.custom_op.words import call, library
from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.jit.compiler import external
from sparse_rt_kernels.threads import atomics

__all__ = ["count_threads", "meet", "run_launches", "work"]

#: What the threads of a phase share: what :func:`atomics.call_task` takes but the task's number, then the bytes from
#: the scratch memory of one thread to that of the next, how many tasks there are, and the next one.
_FUNCTION, _ARGUMENTS, _X, _OTHER, _OUT, _SHARED, _SCRATCH, _STRIDE, _TASKS, _NEXT = (8 * word for word in range(10))
_PHASE_WORDS: Final = 16
#: What threads share that meet: how many have come, how many had when the first one left, how many are expected.
_COME, _MET, _EXPECTED = (8 * word for word in range(3))
_MEETING_WORDS: Final = 8
#: Looks at who has come before a thread gives up: 120 us on Zen 4, in which a thread that sleeps wakes up.
_PATIENCE: Final = 5000
#: Words of a set of CPUs as the system tells it.
_SET_WORDS: Final = 128

_sched_getaffinity: Any = external("sched_getaffinity", "intc", "intp", "intp", "intp")


@kernel_jit
def _take_tasks(phase: int, thread: int) -> int:
    f, arguments, x = native.load(phase + _FUNCTION), native.load(phase + _ARGUMENTS), native.load(phase + _X)
    other, out, shared = native.load(phase + _OTHER), native.load(phase + _OUT), native.load(phase + _SHARED)
    scratch = native.load(phase + _SCRATCH) + thread * native.load(phase + _STRIDE)
    tasks = native.load(phase + _TASKS)
    task = atomics.fetch_add(phase + _NEXT, 1)
    while task < tasks:
        atomics.call_task(f, task, arguments, x, other, out, shared, scratch)
        task = atomics.fetch_add(phase + _NEXT, 1)
    return 0


def work(phase: int, thread: int) -> int:
    """Run tasks of a phase until there are no more, as number `thread` of the threads that do."""
    return _take_tasks(phase, thread)


def meet(meeting: int, thread: int) -> int:
    """Wait a while until all threads have come that are expected, and note how many did."""
    if atomics.load(meeting + _MET) != 0:
        return 0
    come = atomics.fetch_add(meeting + _COME, 1) + 1
    expected = native.load(meeting + _EXPECTED)
    looks = 0
    while come < expected and looks < _PATIENCE and atomics.load(meeting + _MET) == 0:
        atomics.pause()
        come = atomics.load(meeting + _COME)
        looks += 1
    atomics.compare_exchange(meeting + _MET, 0, come)
    return 0


@kernel_jit
def _allowed_cpus() -> int:
    """Return how many CPUs this thread may run on; 1 where the system does not tell."""
    words = native.stack(_SET_WORDS)
    for word in range(_SET_WORDS):
        native.store(words + 8 * word, 0)
    if _sched_getaffinity(0, 8 * _SET_WORDS, words) < 0:
        return 1
    count = 0
    for word in range(_SET_WORDS):
        bits = native.load(words + 8 * word)
        while bits != 0:
            bits &= bits - 1
            count += 1
    return max(1, count)


@kernel_jit
def count_threads(of: int, context: int) -> int:
    """Return how many threads onnxruntime's pool has, which it does not tell: as many as meet in it.

    `of` is the library's block. No more are counted than there are CPUs to run them.
    """
    expected = _allowed_cpus()
    if expected == 1:
        return 1
    meeting = native.stack(_MEETING_WORDS)
    atomics.exchange(meeting + _COME, 0)
    atomics.exchange(meeting + _MET, 0)
    atomics.exchange(meeting + _EXPECTED, expected)
    function, api = native.load(of + library.MEET), native.load(of + library.API)
    native.call(native.load(api + c_api.KERNEL_CONTEXT_PARALLEL_FOR), (context, function, expected, 0, meeting))
    return max(1, atomics.load(meeting + _MET))


@kernel_jit
def _run_phase(of: int, context: int, phase: int, threads: int, tasks: int) -> int:
    """Run a phase on at most `threads` threads; returns onnxruntime's status."""
    atomics.exchange(phase + _TASKS, tasks)
    atomics.exchange(phase + _NEXT, 0)
    if threads == 1 or tasks == 1:
        return _take_tasks(phase, 0)
    function, api = native.load(of + library.WORK), native.load(of + library.API)
    parallel_for = native.load(api + c_api.KERNEL_CONTEXT_PARALLEL_FOR)
    return native.call(parallel_for, (context, function, min(threads, tasks), 0, phase))


@kernel_jit
def run_launches(of: int, context: int, prepared: int, table: int, memory: int) -> int:
    """Run the launches of a prepared call on arrays whose addresses `table` holds; returns onnxruntime's status.

    Parameters
    ----------
    of, context
        The library's block; onnxruntime's OrtKernelContext.
    prepared
        A block of :mod:`.words.call`.
    table
        Address of the addresses of arrays; see :func:`sparse_rt_kernels.threads.dispatch.dispatch_sequence`.
    memory
        Address of scratch memory: what is shared, then that of each thread.
    """
    sequence, threads = native.load(prepared + call.SEQUENCE), native.load(prepared + call.THREADS)
    launches, count = native.load(sequence), native.load(sequence + 8)
    phase = native.stack(_PHASE_WORDS)
    native.store(phase + _SHARED, memory)
    native.store(phase + _SCRATCH, memory + native.load(sequence + 16))
    native.store(phase + _STRIDE, native.load(sequence + 24))
    for number in range(count):
        at = launches + 40 * number
        native.store(phase + _X, native.load(table + 8 * native.load(at + 16)))
        native.store(phase + _OUT, native.load(table + 8 * native.load(at + 32)))
        entry, other = native.load(at + 24), 0
        if entry >= 0:
            other = native.load(table + 8 * entry)
        elif entry < -1:
            other = table + 8 * (-2 - entry)
        native.store(phase + _OTHER, other)
        phases = native.load(at)
        for one in range(native.load(at + 8)):
            words = phases + 32 * one
            native.store(phase + _FUNCTION, native.load(words))
            native.store(phase + _ARGUMENTS, native.load(words + 8))
            status = _run_phase(of, context, phase, threads, native.load(words + 16))
            if status != 0:
                return status
    return 0
