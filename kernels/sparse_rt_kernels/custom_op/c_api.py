"""Where onnxruntime's C interface has its functions: offsets in bytes into `OrtApi`, the table of function pointers.

Versions only add functions behind those that are there (onnxruntime_c_api.h: "the order of members must not change").
All but the release functions return an OrtStatus, 0 where all is well.
"""

from typing import Final

#: The oldest version of the interface, onnxruntime 1.17, with all that is needed but an allocator of a kernel's own.
VERSION: Final = 17
#: The first version with :data:`KERNEL_INFO_GET_ALLOCATOR`.
HAS_ALLOCATORS: Final = 18

#: (code, text).
CREATE_STATUS: Final = 8 * 0
#: (name, place for the domain), (domain, OrtCustomOp), (session options, domain).
CREATE_CUSTOM_OP_DOMAIN: Final = 8 * 26
CUSTOM_OP_DOMAIN_ADD: Final = 8 * 27
ADD_CUSTOM_OP_DOMAIN: Final = 8 * 28
#: (value, place for the address).
GET_TENSOR_MUTABLE_DATA: Final = 8 * 51
#: (info, place for the rank), (info, place for the sizes, rank).
GET_DIMENSIONS_COUNT: Final = 8 * 61
GET_DIMENSIONS: Final = 8 * 62
#: (value, place for the info), to be released.
GET_TENSOR_TYPE_AND_SHAPE: Final = 8 * 65
#: (place for the allocator), never released.
GET_ALLOCATOR_WITH_DEFAULT_OPTIONS: Final = 8 * 78
#: (context, number of the input, place for the value).
KERNEL_CONTEXT_GET_INPUT: Final = 8 * 90
#: (context, number of the output, sizes, rank, place for the value).
KERNEL_CONTEXT_GET_OUTPUT: Final = 8 * 91
#: (info).
RELEASE_TENSOR_TYPE_AND_SHAPE_INFO: Final = 8 * 99
#: (allocator).
RELEASE_ALLOCATOR: Final = 8 * 132
#: (context, function of (data, number), how many numbers, 0, data): numbers are handed out to whatever thread is free.
KERNEL_CONTEXT_PARALLEL_FOR: Final = 8 * 274
#: (info, OrtMemType, place for the allocator), to be released.
KERNEL_INFO_GET_ALLOCATOR: Final = 8 * 278
