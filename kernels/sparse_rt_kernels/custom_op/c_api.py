"""Where onnxruntime's C interface has its functions: offsets in bytes into `OrtApi`, the table of function pointers.

Versions only add functions behind those that are there (onnxruntime_c_api.h: "the order of members must not change").
All but the release functions return an OrtStatus, 0 where all is well.
"""

from typing import Final

#: The oldest version of the interface, onnxruntime 1.17, with all that is needed but an allocator of a kernel's own.
VERSION: Final = 17
#: The first version with :data:`KERNEL_INFO_GET_ALLOCATOR`.
HAS_ALLOCATORS: Final = 18

#: A version of the interface that every onnxruntime has.
ANY_VERSION: Final = 1
#: OrtErrorCode.
FAIL: Final = 1
INVALID_ARGUMENT: Final = 2

#: (code, text).
CREATE_STATUS: Final = 8 * 0
#: (status): the address of its words.
GET_ERROR_MESSAGE: Final = 8 * 2
#: (name, place for the domain), (domain, OrtCustomOp), (session options, domain).
CREATE_CUSTOM_OP_DOMAIN: Final = 8 * 26
CUSTOM_OP_DOMAIN_ADD: Final = 8 * 27
ADD_CUSTOM_OP_DOMAIN: Final = 8 * 28
#: (value, place for the address).
GET_TENSOR_MUTABLE_DATA: Final = 8 * 51
#: (type info, place for the info of a tensor), not to be released.
CAST_TYPE_INFO: Final = 8 * 55
#: (info, place for the element type, 32 bits), (info, place for how many elements there are).
GET_ELEMENT_TYPE: Final = 8 * 60
GET_ELEMENT_COUNT: Final = 8 * 64
#: (info, place for the rank), (info, place for the sizes, rank).
GET_DIMENSIONS_COUNT: Final = 8 * 61
GET_DIMENSIONS: Final = 8 * 62
#: (value, place for the info), to be released.
GET_TENSOR_TYPE_AND_SHAPE: Final = 8 * 65
#: (place for the allocator), never released.
GET_ALLOCATOR_WITH_DEFAULT_OPTIONS: Final = 8 * 78
#: (info, name, place): an attribute that is a float, an int; (info, name, place, place for its length): one that is a
#: text, whose length alone is told where the place is 0.
GET_FLOAT: Final = 8 * 85
GET_INT: Final = 8 * 86
GET_TEXT: Final = 8 * 87
#: (context, number of the input, place for the value).
KERNEL_CONTEXT_GET_INPUT: Final = 8 * 90
#: (context, number of the output, sizes, rank, place for the value).
KERNEL_CONTEXT_GET_OUTPUT: Final = 8 * 91
#: (status), (value).
RELEASE_STATUS: Final = 8 * 93
RELEASE_VALUE: Final = 8 * 96
#: (type info), (info).
RELEASE_TYPE_INFO: Final = 8 * 98
RELEASE_TENSOR_TYPE_AND_SHAPE_INFO: Final = 8 * 99
#: (allocator).
RELEASE_ALLOCATOR: Final = 8 * 132
#: Attributes that are several floats, ints: (info, name, place, place for how many).
GET_FLOATS: Final = 8 * 162
GET_INTS: Final = 8 * 163
#: (info, place for how many inputs a node has), likewise outputs.
GET_INPUT_COUNT: Final = 8 * 230
GET_OUTPUT_COUNT: Final = 8 * 231
#: (info, number of the input, place, place for its length), the text as in :data:`GET_TEXT`.
GET_INPUT_NAME: Final = 8 * 232
#: (info, number of the input, place for the type info), to be released.
GET_INPUT_TYPE: Final = 8 * 234
#: An attribute that is a tensor: (info, name, allocator, place for the value), to be released.
GET_TENSOR: Final = 8 * 236
#: (info, place, place for its length): the name of a node.
GET_NODE_NAME: Final = 8 * 244
#: (info, number of the input, place for whether it is constant, 32 bits, place for the value), not to be released.
GET_CONSTANT_INPUT: Final = 8 * 249
#: (context, function of (data, number), how many numbers, 0, data): numbers are handed out to whatever thread is free.
KERNEL_CONTEXT_PARALLEL_FOR: Final = 8 * 274
#: (info, OrtMemType, place for the allocator), to be released.
KERNEL_INFO_GET_ALLOCATOR: Final = 8 * 278
