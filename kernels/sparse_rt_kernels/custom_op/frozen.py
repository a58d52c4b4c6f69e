"""Kernels of which a library holds everything: what Python does for others in its process, without Python.

A call is found by the shapes of its inputs. Where their rows or images do not depend on each other, calls for some
numbers of them do for any number: each does as many as are left and it can.
"""

from typing import Any, Final

from sparse_rt_kernels.custom_op import c_api, compute, identity, native
from sparse_rt_kernels.custom_op.compute import MOST_INPUTS, MOST_OUTPUTS, MOST_WORDS
from sparse_rt_kernels.custom_op.words import call, checked, frozen, kernel, library
from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.jit.compiler import external

__all__ = ["check", "create", "prepare", "release", "run"]

_MOST_AXES: Final = 64

_calloc: Any = external("calloc", "intp", "intp", "intp")
_free: Any = external("free", "void", "intp")


def check(options: int, base: int, block: int) -> int:
    """Be RegisterCustomOps of a library whose data are whole; see :mod:`.words.checked`."""
    state = native.stack(8)
    rows = native.load(block + checked.ROWS)
    for number in range(native.load(block + checked.ROW_COUNT)):
        row = rows + 32 * number
        identity.sum_bytes(native.load(row), native.load(row + 8), state)
        is_first_equal = native.load(state) == native.load(row + 16)
        if not is_first_equal or native.load(state + 8) != native.load(row + 24):
            api = native.call(native.load(base), (c_api.ANY_VERSION,))
            return native.call(
                native.load(api + c_api.CREATE_STATUS), (c_api.FAIL, native.load(block + checked.DAMAGED))
            )
    return native.call(native.load(block + checked.GO_ON), (options, base))


@kernel_jit
def _find_node(number: int, api: int, info: int, first: int) -> int:
    """Return the node that an OrtKernelInfo describes, of an operator; 0 if the library does not hold it."""
    state = native.stack(8)
    is_known = False
    at = first
    while at != 0:
        if native.load(at + frozen.NUMBER) == number:
            if not is_known:
                attributes, count = native.load(at + frozen.ATTRIBUTES), native.load(at + frozen.ATTRIBUTE_COUNT)
                identity.identify(api, info, attributes, count, state)
                is_known = True
            is_first_equal = native.load(at + frozen.IDENTITY) == native.load(state)
            if is_first_equal and native.load(at + frozen.IDENTITY + 8) == native.load(state + 8):
                return at
        at = native.load(at + frozen.NEXT)
    return 0


def create(number: int, api: int, info: int, error: int, first: int) -> int:
    """Return the block of a kernel; see :data:`.words.library.CREATE`. `first` is the first node of the library."""
    node = _find_node(number, api, info, first)
    if node == 0:
        native.store(error, native.load(first + frozen.NO_NODE))
        return 0
    own: int = _calloc(kernel.COUNT, 8)
    if own == 0:
        return 0
    native.store(own + kernel.LIBRARY, native.load(node + frozen.LIBRARY))
    native.store(own + kernel.THREADS, 1)
    native.store(own + kernel.LOOKS, kernel.MOST_LOOKS)
    native.store(own + kernel.INPUT_COUNT, native.load(node + frozen.INPUT_COUNT))
    native.store(own + kernel.INPUTS, native.load(node + frozen.INPUTS))
    native.store(own + kernel.OWN, node)
    native.store(own + kernel.RUNS_ELSEWHERE, native.load(node + frozen.LEADING))
    if native.load(node + frozen.LEADING) == 0:
        native.store(own + kernel.CALLS, native.load(node + frozen.CALLS))
    return own


def release(own: int) -> int:
    """Let go of a kernel."""
    _free(own)
    return 0


def prepare(own: int, threads: int, key: int, count: int, error: int) -> int:
    """Return the call for inputs of these shapes that uses the most of `threads`."""
    node = native.load(own + kernel.OWN)
    found, most = 0, 0
    at = native.load(node + frozen.CALLS)
    while at != 0:
        uses = native.load(at + call.THREADS)
        if most < uses <= threads and compute.has_key(at, key, count):
            found, most = at, uses
        at = native.load(at + call.NEXT)
    if found == 0:
        native.store(error, native.load(node + frozen.NO_CALL))
    return found


@kernel_jit
def _units(node: int, key: int) -> int:
    """Return how many units the inputs have, by the first one that has units."""
    place = key
    for number in range(native.load(node + frozen.INPUT_COUNT)):
        if native.load(native.load(node + frozen.INPUT_BYTES) + 8 * number) > 0:
            units = 1
            for axis in range(native.load(node + frozen.LEADING)):
                units *= native.load(place + 8 + 8 * axis)
            return units
        place += 8 * (1 + native.load(place))
    return 1


@kernel_jit
def _leading(node: int, key: int) -> int:
    """Return the address of the leading sizes of the first input that has units."""
    place = key
    for number in range(native.load(node + frozen.INPUT_COUNT)):
        if native.load(native.load(node + frozen.INPUT_BYTES) + 8 * number) > 0:
            break
        place += 8 * (1 + native.load(place))
    return place + 8


@kernel_jit
def _is_part(node: int, prepared: int, key: int) -> int:
    """Return whether a call does a part of what inputs of these shapes need."""
    leading, first = native.load(node + frozen.LEADING), _leading(node, key)
    place, own = key, native.load(prepared + call.KEY)
    for number in range(native.load(node + frozen.INPUT_COUNT)):
        rank = native.load(place)
        if native.load(own) != rank:
            return 0
        has_units = native.load(native.load(node + frozen.INPUT_BYTES) + 8 * number) > 0
        for axis in range(rank):
            is_leading = has_units and axis < leading
            expected = native.load(first + 8 * axis) if is_leading else native.load(own + 8 + 8 * axis)
            if native.load(place + 8 + 8 * axis) != expected:
                return 0
        place += 8 * (1 + rank)
        own += 8 * (1 + rank)
    return 1


@kernel_jit
def _largest_part(node: int, key: int, units: int, threads: int) -> int:
    """Return the call that does the most of so many units on the most of so many threads; 0 if there is none."""
    found, most, most_threads = 0, 0, 0
    at = native.load(node + frozen.CALLS)
    while at != 0:
        uses, does = native.load(at + call.THREADS), _units(node, native.load(at + call.KEY))
        is_more = does > most or (does == most and uses > most_threads)
        if is_more and uses <= threads and does <= units and _is_part(node, at, key):
            found, most, most_threads = at, does, uses
        at = native.load(at + call.NEXT)
    return found


@kernel_jit
def _any_part(node: int, key: int) -> int:
    """Return a call that does a part of what inputs of these shapes need; 0 if there is none."""
    at = native.load(node + frozen.CALLS)
    while at != 0 and not _is_part(node, at, key):
        at = native.load(at + call.NEXT)
    return at


@kernel_jit
def _place_outputs(api: int, context: int, node: int, part: int, key: int, pointers: int) -> int:
    """Have onnxruntime make the outputs for all units, and put their addresses at `pointers`; return its status."""
    sizes = native.stack(_MOST_AXES)
    leading, first = native.load(node + frozen.LEADING), _leading(node, key)
    outputs = native.load(part + call.OUTPUTS)
    for number in range(native.load(part + call.OUTPUT_COUNT)):
        rank, own = native.load(outputs + 16 * number), native.load(outputs + 16 * number + 8)
        for axis in range(rank):
            native.store(sizes + 8 * axis, native.load((first if axis < leading else own) + 8 * axis))
        status = compute.place_output(api, context, number, sizes, rank, pointers + 8 * number)
        if status != 0:
            return status
    return 0


@kernel_jit
def _run_parts(own: int, context: int, key: int, inputs: int, outputs: int) -> int:
    """Run call after call until all units are done; return onnxruntime's status, -1 if no call does the rest."""
    node, threads = native.load(own + kernel.OWN), compute.threads_of(own, context)
    units, done = _units(node, key), 0
    read, written = native.stack(MOST_INPUTS), native.stack(MOST_OUTPUTS)
    while done < units:
        part = _largest_part(node, key, units - done, threads)
        if part == 0:
            return -1
        for number in range(native.load(node + frozen.INPUT_COUNT)):
            nbytes = native.load(native.load(node + frozen.INPUT_BYTES) + 8 * number)
            native.store(read + 8 * number, native.load(inputs + 8 * number) + done * nbytes)
        for number in range(native.load(part + call.OUTPUT_COUNT)):
            nbytes = native.load(native.load(node + frozen.OUTPUT_BYTES) + 8 * number)
            native.store(written + 8 * number, native.load(outputs + 8 * number) + done * nbytes)
        status = compute.run_call(own, context, part, read, written)
        if status != 0:
            return status
        done += _units(node, native.load(part + call.KEY))
    return 0


def run(own: int, context: int, error: int) -> int:
    """Run a kernel whose calls do parts; see :data:`.words.library.RUN`."""
    of, node = native.load(own + kernel.LIBRARY), native.load(own + kernel.OWN)
    api = native.load(of + library.API)
    inputs, key = native.stack(MOST_INPUTS), native.stack(MOST_WORDS)
    count = compute.read_inputs(api, own, context, inputs, key)
    if count <= 0:
        native.store(error, native.load(of + (library.TOO_MANY if count < 0 else library.FAILED)))
        return 0
    part = _any_part(node, key)
    if part == 0:
        native.store(error, native.load(node + frozen.NO_CALL))
        return 0
    outputs = native.stack(MOST_OUTPUTS)
    status = _place_outputs(api, context, node, part, key, outputs)
    if status == 0:
        status = _run_parts(own, context, key, inputs, outputs)
    if status == -1:
        native.store(error, native.load(node + frozen.NO_CALL))
        return 0
    if status != 0:
        # The text lives as long as the status, which nobody releases.
        native.store(error, native.call(native.load(api + c_api.GET_ERROR_MESSAGE), (status,)))
        return 0
    return 1
