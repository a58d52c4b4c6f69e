"""What tells a node from others when its kernel is made: two words of its constant inputs and its attributes.

``a' = (a ^ w) p, b' = (b + w) q`` with the high halves mixed into the low ones, for each word w of what is looked at.
Against mistakes, not against people: a model that is made to look like another one gives wrong numbers, no more.
"""

from typing import Any, Final

from sparse_rt_kernels.custom_op import c_api, native
from sparse_rt_kernels.custom_op.words import attribute
from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.jit.entry import kernel_entry

__all__ = ["checksum", "identify", "identity", "sum_bytes"]

#: Odd numbers whose bits are irregular.
_P: Final = 0x1E3779B97F4A7C15
_Q: Final = 0x42B2AE3D27D4EB4F
_FIRST, _SECOND = 0x243F6A8885A308D3, 0x13198A2E03707344
_HALF: Final = 32
_LOW: Final = (1 << _HALF) - 1
#: Bytes of an element by its ONNXTensorElementDataType, 4 bits each: float, uint8, int8, uint16, int16, int32, int64,
#: string, bool, float16, double, uint32, uint64.
_ITEM_BYTES: Final = 0x84821084221140
_LAST_TYPE: Final = 13
#: Stands for what a node has not.
_ABSENT: Final = -1
#: The most sizes of a tensor, and words of an attribute, that are looked at.
_ROOM: Final = 64


@kernel_jit
def _mix(state: int, word: int) -> int:
    a, b = (native.load(state) ^ word) * _P, (native.load(state + 8) + word) * _Q
    native.store(state, a ^ ((a >> _HALF) & _LOW))
    native.store(state + 8, b ^ ((b >> _HALF) & _LOW))
    return 0


@kernel_jit
def _mix_bytes(state: int, address: int, count: int) -> int:
    a, b = native.load(state), native.load(state + 8)
    for number in range(count // 8):
        word = native.load(address + 8 * number)
        a, b = (a ^ word) * _P, (b + word) * _Q
        a, b = a ^ ((a >> _HALF) & _LOW), b ^ ((b >> _HALF) & _LOW)
    native.store(state, a)
    native.store(state + 8, b)
    for number in range(count // 8 * 8, count):
        _mix(state, native.load_byte(address + number))
    return _mix(state, count)


@kernel_jit
def sum_bytes(address: int, count: int, state: int) -> int:
    """Put at `state` the two words of so many bytes."""
    native.store(state, _FIRST)
    native.store(state + 8, _SECOND)
    return _mix_bytes(state, address, count)


@kernel_jit
def _mix_tensor(state: int, api: int, value: int) -> int:
    """Mix in type, sizes and elements of an OrtValue."""
    words = native.stack(8)
    sizes = native.stack(_ROOM)
    for number in range(3):
        native.store(words + 8 * number, 0)
    if native.call(native.load(api + c_api.GET_TENSOR_TYPE_AND_SHAPE), (value, words)) != 0:
        return _mix(state, _ABSENT)
    info = native.load(words)
    native.call(native.load(api + c_api.GET_ELEMENT_TYPE), (info, words + 8))
    native.call(native.load(api + c_api.GET_ELEMENT_COUNT), (info, words + 16))
    native.call(native.load(api + c_api.GET_DIMENSIONS_COUNT), (info, words))
    kind, count, rank = native.load(words + 8) & _LOW, native.load(words + 16), native.load(words)
    if rank <= _ROOM:
        native.call(native.load(api + c_api.GET_DIMENSIONS), (info, sizes, rank))
        for axis in range(rank):
            _mix(state, native.load(sizes + 8 * axis))
    native.call(native.load(api + c_api.RELEASE_TENSOR_TYPE_AND_SHAPE_INFO), (info,))
    _mix(state, kind)
    item = (_ITEM_BYTES >> (4 * kind)) & 15 if kind <= _LAST_TYPE else 0
    if count * item > 0 and native.call(native.load(api + c_api.GET_TENSOR_MUTABLE_DATA), (value, words)) == 0:
        _mix_bytes(state, native.load(words), count * item)
    return _mix(state, rank)


@kernel_jit
def _mix_several(state: int, api: int, info: int, name: int, function: int, item: int) -> int:
    """Mix in an attribute of several items of so many bytes; return a status."""
    words, room = native.stack(8), native.stack(_ROOM)
    native.store(words, 0)
    status = native.call(native.load(api + function), (info, name, 0, words))
    count = native.load(words)
    if status == 0 and 0 < count * item <= 8 * _ROOM:
        status = native.call(native.load(api + function), (info, name, room, words))
        if status == 0:
            _mix_bytes(state, room, count * item)
    _mix(state, count)
    return status


@kernel_jit
def _mix_attribute(state: int, api: int, info: int, name: int, kind: int) -> int:
    """Mix in an attribute; return a status, which is an error if the node has none of that name."""
    words = native.stack(8)
    native.store(words, 0)
    status = 0
    if kind == attribute.INT:
        status = native.call(native.load(api + c_api.GET_INT), (info, name, words))
        _mix(state, native.load(words))
    elif kind == attribute.FLOAT:
        status = native.call(native.load(api + c_api.GET_FLOAT), (info, name, words))
        _mix(state, native.load(words))
    elif kind == attribute.TEXT:
        status = _mix_several(state, api, info, name, c_api.GET_TEXT, 1)
    elif kind == attribute.INTS:
        status = _mix_several(state, api, info, name, c_api.GET_INTS, 8)
    elif kind == attribute.FLOATS:
        status = _mix_several(state, api, info, name, c_api.GET_FLOATS, 4)
    else:
        status = native.call(native.load(api + c_api.GET_ALLOCATOR_WITH_DEFAULT_OPTIONS), (words + 8,))
        if status == 0:
            status = native.call(native.load(api + c_api.GET_TENSOR), (info, name, native.load(words + 8), words))
        if status == 0:
            _mix_tensor(state, api, native.load(words))
            native.call(native.load(api + c_api.RELEASE_VALUE), (native.load(words),))
    return status


@kernel_jit
def identify(api: int, info: int, attributes: int, count: int, state: int) -> int:
    """Put at `state` the two words of a node: of its OrtKernelInfo, looking at so many attributes."""
    words = native.stack(8)
    native.store(state, _FIRST)
    native.store(state + 8, _SECOND)
    native.store(words, 0)
    native.call(native.load(api + c_api.GET_INPUT_COUNT), (info, words))
    for number in range(native.load(words)):
        native.store(words + 8, 0)
        native.store(words + 16, 0)
        get = native.load(api + c_api.GET_CONSTANT_INPUT)
        status = native.call(get, (info, number, words + 8, words + 16))
        if status != 0:
            native.call(native.load(api + c_api.RELEASE_STATUS), (status,))
        elif native.load(words + 8) & _LOW != 0 and native.load(words + 16) != 0:
            _mix(state, number)
            _mix_tensor(state, api, native.load(words + 16))
    for number in range(count):
        at = attributes + 8 * attribute.COUNT * number
        kind = native.load(at + attribute.KIND)
        status = _mix_attribute(state, api, info, native.load(at + attribute.NAME), kind)
        if status != 0:
            native.call(native.load(api + c_api.RELEASE_STATUS), (status,))
            _mix(state, _ABSENT)
    return 0


@kernel_entry
def _identity(api: int, info: int, attributes: int, count: int, state: int) -> int:
    result: int = identify(api, info, attributes, count, state)
    return result


@kernel_entry
def _checksum(address: int, count: int, state: int) -> int:
    result: int = sum_bytes(address, count, state)
    return result


#: :func:`identify` and :func:`sum_bytes` for Python, which writes libraries.
identity: Any = _identity
checksum: Any = _checksum
