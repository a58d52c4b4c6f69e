"""What a kernel does in a run: find the call for the shapes of its inputs, place its arrays, run it."""

from typing import Final

from sparse_rt_kernels.custom_op import c_api, native, tasks
from sparse_rt_kernels.custom_op.words import call, kernel, library
from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.threads import atomics

__all__ = [
    "MOST_INPUTS",
    "MOST_OUTPUTS",
    "MOST_WORDS",
    "compute",
    "has_key",
    "place_output",
    "read_inputs",
    "run_call",
    "threads_of",
]

#: How many inputs a call may read, and how many words their ranks and sizes may be.
MOST_INPUTS: Final = 64
MOST_WORDS: Final = 512
MOST_OUTPUTS: Final = 64
_LINE: Final = 64


@kernel_jit
def _status(of: int, code: int, text: int) -> int:
    """Return onnxruntime's status of an error; `text` is the address of its words."""
    api = native.load(of + library.API)
    return native.call(native.load(api + c_api.CREATE_STATUS), (code, text))


@kernel_jit
def _read_input(api: int, value: int, pointer: int, key: int, room: int) -> int:
    """Put an input's address at `pointer`, and its rank and sizes at `key`.

    Returns how many words these are: 0 if onnxruntime does not tell them, -1 if there is no room for them.
    """
    words = native.stack(8)
    if native.call(native.load(api + c_api.GET_TENSOR_MUTABLE_DATA), (value, pointer)) != 0:
        return 0
    if native.call(native.load(api + c_api.GET_TENSOR_TYPE_AND_SHAPE), (value, words)) != 0:
        return 0
    info, count = native.load(words), 0
    if native.call(native.load(api + c_api.GET_DIMENSIONS_COUNT), (info, words + 8)) == 0:
        rank = native.load(words + 8)
        count = -1
        if rank < room:
            native.store(key, rank)
            native.call(native.load(api + c_api.GET_DIMENSIONS), (info, key + 8, rank))
            count = rank + 1
    native.call(native.load(api + c_api.RELEASE_TENSOR_TYPE_AND_SHAPE_INFO), (info,))
    return count


@kernel_jit
def read_inputs(api: int, own: int, context: int, pointers: int, key: int) -> int:
    """Put the addresses of all inputs at `pointers`, and their shapes at `key`; return the number of its words."""
    words = native.stack(8)
    inputs, used = native.load(own + kernel.INPUTS), 0
    for number in range(native.load(own + kernel.INPUT_COUNT)):
        place = native.load(inputs + 8 * number)
        if native.call(native.load(api + c_api.KERNEL_CONTEXT_GET_INPUT), (context, place, words)) != 0:
            return 0
        count = _read_input(api, native.load(words), pointers + 8 * number, key + 8 * used, MOST_WORDS - used)
        if count <= 0:
            return count
        used += count
    return used


@kernel_jit
def has_key(prepared: int, key: int, count: int) -> int:
    """Return whether a call is for the shapes in `key`, so many words."""
    if native.load(prepared + call.KEY_COUNT) != count:
        return 0
    own = native.load(prepared + call.KEY)
    for word in range(count):
        if native.load(own + 8 * word) != native.load(key + 8 * word):
            return 0
    return 1


@kernel_jit
def _find(own: int, threads: int, key: int, count: int) -> int:
    """Return the kept call of a kernel for the shapes in `key`; 0 if there is none."""
    prepared = atomics.load(own + kernel.CALLS)
    while prepared != 0:
        if native.load(prepared + call.THREADS) == threads and has_key(prepared, key, count):
            return prepared
        prepared = native.load(prepared + call.NEXT)
    return 0


@kernel_jit
def place_output(api: int, context: int, number: int, sizes: int, rank: int, pointer: int) -> int:
    """Have onnxruntime make an output of these sizes, and put its address at `pointer`; return its status."""
    words = native.stack(8)
    get_output = native.load(api + c_api.KERNEL_CONTEXT_GET_OUTPUT)
    status = native.call(get_output, (context, number, sizes, rank, words))
    if status != 0:
        return status
    return native.call(native.load(api + c_api.GET_TENSOR_MUTABLE_DATA), (native.load(words), pointer))


@kernel_jit
def _place_outputs(api: int, context: int, prepared: int, pointers: int) -> int:
    """Have onnxruntime make the outputs, and put their addresses at `pointers`; return its status."""
    outputs = native.load(prepared + call.OUTPUTS)
    for number in range(native.load(prepared + call.OUTPUT_COUNT)):
        rank, sizes = native.load(outputs + 16 * number), native.load(outputs + 16 * number + 8)
        status = place_output(api, context, number, sizes, rank, pointers + 8 * number)
        if status != 0:
            return status
    return 0


@kernel_jit
def _fill_table(prepared: int, table: int, arena: int, inputs: int, outputs: int) -> int:
    """Put the address of each entry's array into the table."""
    offsets = native.load(prepared + call.OFFSETS)
    for entry in range(native.load(prepared + call.OFFSET_COUNT)):
        native.store(table + 8 * entry, arena + native.load(offsets + 8 * entry))
    pairs = native.load(prepared + call.READS)
    for number in range(native.load(prepared + call.READ_COUNT)):
        pair = pairs + 16 * number
        native.store(table + 8 * native.load(pair + 8), native.load(inputs + 8 * native.load(pair)))
    pairs = native.load(prepared + call.WRITES)
    for number in range(native.load(prepared + call.WRITE_COUNT)):
        pair = pairs + 16 * number
        native.store(table + 8 * native.load(pair + 8), native.load(outputs + 8 * native.load(pair)))
    return 0


@kernel_jit
def _copy(prepared: int, inputs: int, outputs: int) -> int:
    """Copy what outputs share with other arrays."""
    triples = native.load(prepared + call.COPIES)
    for number in range(native.load(prepared + call.COPY_COUNT)):
        triple = triples + 24 * number
        source, target = native.load(triple), native.load(triple + 8)
        origin = native.load(inputs + 8 * source) if source >= 0 else native.load(outputs + 8 * (-1 - source))
        native.copy_bytes(native.load(outputs + 8 * target), origin, native.load(triple + 16))
    return 0


@kernel_jit
def run_call(own: int, context: int, prepared: int, inputs: int, outputs: int) -> int:
    """Run a prepared call on arrays whose addresses stand at `inputs` and `outputs`; return onnxruntime's status."""
    of = native.load(own + kernel.LIBRARY)
    allocator = native.load(own + kernel.ALLOCATOR)
    sequence = native.load(prepared + call.SEQUENCE)
    threads = native.load(prepared + call.THREADS)
    scratch_bytes = native.load(sequence + 16) + threads * native.load(sequence + 24)
    table_bytes = (8 * native.load(prepared + call.OFFSET_COUNT) // _LINE + 1) * _LINE
    arena_bytes = (native.load(prepared + call.ARENA_BYTES) // _LINE + 1) * _LINE
    block = native.call(native.load(allocator + 8), (allocator, table_bytes + arena_bytes + scratch_bytes + _LINE))
    if block == 0:
        return _status(of, c_api.FAIL, native.load(of + library.NO_MEMORY))
    table = (block // _LINE + 1) * _LINE
    _fill_table(prepared, table, table + table_bytes, inputs, outputs)
    status = tasks.run_launches(of, context, prepared, table, table + table_bytes + arena_bytes)
    _copy(prepared, inputs, outputs)
    native.call(native.load(allocator + 16), (allocator, block))
    return status


@kernel_jit
def _run(own: int, context: int, prepared: int, inputs: int) -> int:
    """Run a prepared call on the inputs at these addresses; return onnxruntime's status."""
    api = native.load(native.load(own + kernel.LIBRARY) + library.API)
    outputs = native.stack(MOST_OUTPUTS)
    status = _place_outputs(api, context, prepared, outputs)
    if status != 0:
        return status
    return run_call(own, context, prepared, inputs, outputs)


@kernel_jit
def threads_of(own: int, context: int) -> int:
    """Return how many threads a kernel is run on, as far as is known."""
    of = native.load(own + kernel.LIBRARY)
    if atomics.load(own + kernel.LOOKS) > 0:
        # A thread that was busy elsewhere may be there the next time.
        threads = max(atomics.load(own + kernel.THREADS), tasks.count_threads(of, context))
        atomics.exchange(own + kernel.THREADS, threads)
        atomics.fetch_add(own + kernel.LOOKS, -1)
    return atomics.load(own + kernel.THREADS)


@kernel_jit
def _run_elsewhere(own: int, context: int) -> int:
    """Have a kernel without calls run."""
    of = native.load(own + kernel.LIBRARY)
    error = native.stack(8)
    native.store(error, native.load(of + library.FAILED))
    function = native.load(of + library.RUN)
    if function == 0 or native.call(function, (own, context, error)) == 0:
        return _status(of, c_api.FAIL, native.load(error))
    return 0


def compute(own: int, context: int) -> int:
    """Run a kernel: OrtCustomOp's KernelComputeV2. `own` is a block of :mod:`.words.kernel`; returns a status."""
    of = native.load(own + kernel.LIBRARY)
    if native.load(own + kernel.RUNS_ELSEWHERE) != 0:
        return _run_elsewhere(own, context)
    inputs, key, error = native.stack(MOST_INPUTS), native.stack(MOST_WORDS), native.stack(8)
    count = read_inputs(native.load(of + library.API), own, context, inputs, key)
    if count < 0:
        return _status(of, c_api.INVALID_ARGUMENT, native.load(of + library.TOO_MANY))
    threads = threads_of(own, context)
    prepared = _find(own, threads, key, count)
    if prepared == 0:
        native.store(error, native.load(of + library.FAILED))
        function = native.load(of + library.PREPARE)
        if function != 0:
            prepared = native.call(function, (own, threads, key, count, error))
        if prepared == 0 and native.load(own + kernel.RUNS_ELSEWHERE) != 0:
            return _run_elsewhere(own, context)
        if prepared == 0:
            return _status(of, c_api.INVALID_ARGUMENT, native.load(error))
    status = _run(own, context, prepared, inputs)
    done = native.load(of + library.DONE)
    if native.load(prepared + call.IS_KEPT) == 0 and done != 0:
        native.call(done, (prepared,))
    return status
