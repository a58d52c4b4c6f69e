"""What belongs to a library: one block of data in it."""

from typing import Final

#: onnxruntime's table of functions; written when the library is registered.
API: Final = 8 * 0
#: What makes a kernel: (number of the operator, OrtApi, OrtKernelInfo, address for the address of an error's text)
#: -> a block of :mod:`.kernel`, or 0. In a process with Python this is Python; 0 where nothing makes kernels.
CREATE: Final = 8 * 1
#: What prepares a call: (kernel, threads, key, number of its words, place for an error's text) -> a block of
#: :mod:`.call`, or 0.
PREPARE: Final = 8 * 2
#: What runs a kernel that has no calls: (kernel, OrtKernelContext, place for an error's text) -> 1, or 0.
RUN: Final = 8 * 3
#: What is told of a call that is not kept, once it has run: (call).
DONE: Final = 8 * 4
#: What is told of a kernel that is no longer needed: (kernel).
RELEASE: Final = 8 * 5
#: :func:`.tasks.work` and :func:`.tasks.meet`, for onnxruntime's threads.
WORK: Final = 8 * 6
MEET: Final = 8 * 7
#: The first of its domains, and how many there are; see :mod:`.domain`.
DOMAINS: Final = 8 * 8
DOMAIN_COUNT: Final = 8 * 9
#: Whether onnxruntime gives each kernel an allocator.
HAS_ALLOCATORS: Final = 8 * 10
#: Addresses of the texts of errors: nothing makes kernels, onnxruntime is too old, the inputs have too many axes, there
#: is no memory, and what failed does not say why.
NO_CREATOR: Final = 8 * 11
TOO_OLD: Final = 8 * 12
TOO_MANY: Final = 8 * 13
NO_MEMORY: Final = 8 * 14
FAILED: Final = 8 * 15
COUNT: Final = 16
