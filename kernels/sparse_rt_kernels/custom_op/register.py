"""How a library and its kernels come and go: the functions that onnxruntime calls apart from runs."""

from sparse_rt_kernels.custom_op import c_api, native
from sparse_rt_kernels.custom_op.words import domain, kernel, library, op
from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.threads import atomics

__all__ = ["create", "destroy", "register"]

_ZERO, _NINE, _DOT = ord("0"), ord("9"), ord(".")


@kernel_jit
def _minor_version(text: int) -> int:
    """Return the second number of a version such as 1.32.0, of which `text` is the address; 0 if there is none."""
    number, dots, place = 0, 0, text
    byte = native.load_byte(place)
    while byte != 0 and dots < 2:
        if byte == _DOT:
            dots += 1
        elif dots == 1 and _ZERO <= byte <= _NINE:
            number = 10 * number + byte - _ZERO
        place += 1
        byte = native.load_byte(place)
    return number


@kernel_jit
def _make_domain(api: int, block: int) -> int:
    """Have onnxruntime make a domain with its operators; return its status.

    Sessions keep the address of a domain, so it stays: one for all sessions.
    """
    words = native.stack(8)
    status = native.call(native.load(api + c_api.CREATE_CUSTOM_OP_DOMAIN), (native.load(block + domain.NAME), words))
    if status != 0:
        return status
    own, ops = native.load(words), native.load(block + domain.OPS)
    for number in range(native.load(block + domain.OP_COUNT)):
        status = native.call(native.load(api + c_api.CUSTOM_OP_DOMAIN_ADD), (own, ops + 8 * op.COUNT * number))
        if status != 0:
            return status
    atomics.exchange(block + domain.OBJECT, own)
    return 0


@kernel_jit
def _add_domain(api: int, options: int, block: int) -> int:
    """Add a domain to the options of a session; return onnxruntime's status."""
    if atomics.load(block + domain.OBJECT) == 0:
        status = _make_domain(api, block)
        if status != 0:
            return status
    return native.call(native.load(api + c_api.ADD_CUSTOM_OP_DOMAIN), (options, atomics.load(block + domain.OBJECT)))


def register(options: int, base: int, of: int) -> int:
    """Add all operators of a library to the options of a session: RegisterCustomOps, and the library's block."""
    get_api = native.load(base)
    minor = _minor_version(native.call(native.load(base + 8), ()))
    # Of a version that it does not have, onnxruntime would complain on the standard error, too.
    api = native.call(get_api, (c_api.VERSION if minor >= c_api.VERSION else c_api.ANY_VERSION,))
    create_status = native.load(api + c_api.CREATE_STATUS)
    if minor < c_api.VERSION:
        return native.call(create_status, (c_api.FAIL, native.load(of + library.TOO_OLD)))
    if native.load(of + library.CREATE) == 0:
        return native.call(create_status, (c_api.FAIL, native.load(of + library.NO_CREATOR)))
    native.store(of + library.HAS_ALLOCATORS, minor >= c_api.HAS_ALLOCATORS)
    native.store(of + library.API, api)
    blocks = native.load(of + library.DOMAINS)
    for number in range(native.load(of + library.DOMAIN_COUNT)):
        status = _add_domain(api, options, blocks + 8 * domain.COUNT * number)
        if status != 0:
            return status
    return 0


def create(own: int, api: int, info: int, place: int) -> int:
    """Make the kernel of a node: OrtCustomOp's CreateKernelV2. `place` is for its address; returns a status."""
    of, words = native.load(own + op.LIBRARY), native.stack(8)
    native.store(words, native.load(of + library.FAILED))
    made, function = 0, native.load(of + library.CREATE)
    if function != 0:
        made = native.call(function, (native.load(own + op.NUMBER), api, info, words))
    if made == 0:
        return native.call(native.load(api + c_api.CREATE_STATUS), (c_api.FAIL, native.load(words)))
    if native.load(of + library.HAS_ALLOCATORS) != 0:
        status = native.call(native.load(api + c_api.KERNEL_INFO_GET_ALLOCATOR), (info, 0, words))
    else:
        status = native.call(native.load(api + c_api.GET_ALLOCATOR_WITH_DEFAULT_OPTIONS), (words,))
    if status == 0:
        native.store(made + kernel.ALLOCATOR, native.load(words))
        native.store(place, made)
    return status


def destroy(own: int) -> int:
    """Let go of a kernel, which may have come to nothing: OrtCustomOp's KernelDestroy."""
    if own == 0:
        return 0
    of = native.load(own + kernel.LIBRARY)
    api, function = native.load(of + library.API), native.load(of + library.RELEASE)
    allocator = native.load(own + kernel.ALLOCATOR)
    if allocator != 0 and native.load(of + library.HAS_ALLOCATORS) != 0:
        native.call(native.load(api + c_api.RELEASE_ALLOCATOR), (allocator,))
    if function != 0:
        native.call(function, (own,))
    return 0
