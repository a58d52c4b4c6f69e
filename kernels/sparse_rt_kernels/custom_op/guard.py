"""A look at the CPU before any code of a library runs that was compiled for one that may have more.

The function is written by hand: what a compiler makes may use what it asks for. It is a C function of three words,
(options, onnxruntime's OrtApiBase, block), which goes on with another function of the same first two words, or returns
the status of an error. The block holds the address of that function, that of the error's text, and rows of 32-bit words
(leaf, subleaf, register, bits), the last one of zeros: all `bits` must be set in register 0 to 3 (eax, ebx, ecx, edx)
of cpuid, or, where it says 4, in what the system says that it keeps of registers (xgetbv).
"""

import struct
from collections.abc import Collection
from typing import Final

from sparse_rt_kernels.jit.object_file import ALIGNMENT, Image

__all__ = ["ADDRESSES", "guard", "needed_rows"]

#: Words before the rows: the function, the text.
ADDRESSES: Final = 2
_CODE: Final = (
    "53"  #                 push rbx
    "57"  #                 push rdi
    "56"  #                 push rsi
    "52"  #                 push rdx
    "4883ec18"  #           sub rsp, 24
    "4c8d4210"  #           lea r8, [rdx+16]
    "458b480c"  #     next: mov r9d, [r8+12]
    "4585c9"  #             test r9d, r9d
    "743b"  #               je good
    "418b00"  #             mov eax, [r8]
    "418b4804"  #           mov ecx, [r8+4]
    "4183780804"  #         cmp dword [r8+8], 4
    "741a"  #               je kept
    "0fa2"  #               cpuid
    "890424"  #             mov [rsp], eax
    "895c2404"  #           mov [rsp+4], ebx
    "894c2408"  #           mov [rsp+8], ecx
    "8954240c"  #           mov [rsp+12], edx
    "418b4008"  #           mov eax, [r8+8]
    "8b0484"  #             mov eax, [rsp+rax*4]
    "eb05"  #               jmp compare
    "31c9"  #         kept: xor ecx, ecx
    "0f01d0"  #             xgetbv
    "4421c8"  #    compare: and eax, r9d
    "4439c8"  #             cmp eax, r9d
    "7510"  #               jne bad
    "4983c010"  #           add r8, 16
    "ebbc"  #               jmp next
    "4883c418"  #     good: add rsp, 24
    "5a"  #                 pop rdx
    "5e"  #                 pop rsi
    "5f"  #                 pop rdi
    "5b"  #                 pop rbx
    "ff22"  #               jmp [rdx]
    "488b742420"  #    bad: mov rsi, [rsp+32]
    "bf01000000"  #         mov edi, 1
    "ff16"  #               call [rsi]       OrtApiBase::GetApi(1)
    "488b542418"  #         mov rdx, [rsp+24]
    "488b7208"  #           mov rsi, [rdx+8]
    "bf01000000"  #         mov edi, 1
    "ff10"  #               call [rax]       OrtApi::CreateStatus(ORT_FAIL, text)
    "4883c418"  #           add rsp, 24
    "5a"  #                 pop rdx
    "5e"  #                 pop rsi
    "5f"  #                 pop rdi
    "5b"  #                 pop rbx
    "c3"  #                 ret
)
_EAX, _EBX, _ECX, _EDX, _KEPT = range(5)
#: (leaf, subleaf, register, bit) of LLVM's features; those that it names and no compiled code uses are not here.
_FEATURES: Final = {
    "sse3": (1, 0, _ECX, 0),
    "pclmul": (1, 0, _ECX, 1),
    "ssse3": (1, 0, _ECX, 9),
    "fma": (1, 0, _ECX, 12),
    "cx16": (1, 0, _ECX, 13),
    "sse4.1": (1, 0, _ECX, 19),
    "sse4.2": (1, 0, _ECX, 20),
    "movbe": (1, 0, _ECX, 22),
    "popcnt": (1, 0, _ECX, 23),
    "aes": (1, 0, _ECX, 25),
    "avx": (1, 0, _ECX, 28),
    "f16c": (1, 0, _ECX, 29),
    "bmi": (7, 0, _EBX, 3),
    "avx2": (7, 0, _EBX, 5),
    "bmi2": (7, 0, _EBX, 8),
    "avx512f": (7, 0, _EBX, 16),
    "avx512dq": (7, 0, _EBX, 17),
    "adx": (7, 0, _EBX, 19),
    "avx512ifma": (7, 0, _EBX, 21),
    "avx512cd": (7, 0, _EBX, 28),
    "avx512bw": (7, 0, _EBX, 30),
    "avx512vl": (7, 0, _EBX, 31),
    "avx512vbmi": (7, 0, _ECX, 1),
    "avx512vbmi2": (7, 0, _ECX, 6),
    "gfni": (7, 0, _ECX, 8),
    "vaes": (7, 0, _ECX, 9),
    "vpclmulqdq": (7, 0, _ECX, 10),
    "avx512vnni": (7, 0, _ECX, 11),
    "avx512bitalg": (7, 0, _ECX, 12),
    "avx512vpopcntdq": (7, 0, _ECX, 14),
    "avx512vp2intersect": (7, 0, _EDX, 8),
    "avx512fp16": (7, 0, _EDX, 23),
    "avxvnni": (7, 1, _EAX, 4),
    "avx512bf16": (7, 1, _EAX, 5),
    "avxifma": (7, 1, _EAX, 23),
    "lzcnt": (0x80000001, 0, _ECX, 5),
    "sse4a": (0x80000001, 0, _ECX, 6),
    "xop": (0x80000001, 0, _ECX, 11),
    "fma4": (0x80000001, 0, _ECX, 16),
    "tbm": (0x80000001, 0, _ECX, 21),
}
#: Whether the system keeps registers: bits of what xgetbv returns, which exists where cpuid says so.
_ASKS_SYSTEM: Final = (1, 0, _ECX, 1 << 27)
_AVX_KEPT, _AVX512_KEPT = 0x6, 0xE6


def guard() -> Image:
    """Return the function."""
    content = bytes.fromhex(_CODE)
    content += bytes(-len(content) % ALIGNMENT)
    return Image(content, 0, (), (), len(content), ())


def needed_rows(features: Collection[str]) -> bytes:
    """Return the rows that ask for LLVM's `features`.

    The order is that in which they can be asked for: a CPU without AVX may know nothing of later leaves.
    """
    bits: dict[tuple[int, int, int], int] = {}
    for name, (leaf, subleaf, register, bit) in _FEATURES.items():
        if name in features:
            place = leaf, subleaf, register
            bits[place] = bits.get(place, 0) | 1 << bit
    rows = [(*place, wanted) for place, wanted in bits.items()]
    if "avx" in features:
        kept = _AVX512_KEPT if "avx512f" in features else _AVX_KEPT
        first = [row for row in rows if row[0] == 1]
        rows = [*first, _ASKS_SYSTEM, (0, 0, _KEPT, kept), *(row for row in rows if row[0] != 1)]
    return b"".join(struct.pack("<4I", *row) for row in [*rows, (0, 0, 0, 0)])
