"""The records of ELF files for x86-64: what is read of object files, and written of shared objects."""

import struct
from typing import Final

__all__ = ["HEADER", "MAGIC", "RELOCATION", "SECTION", "SYMBOL", "X86_64"]

#: Of a file: identity, kind, machine, version, entry, program headers, section headers, flags, and sizes and counts.
HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
#: Of a section: name, kind, flags, address, offset, size, link, info, alignment, size of an entry.
SECTION: Final = struct.Struct("<IIQQQQIIQQ")
#: A symbol: name, kind, visibility, section, value, size.
SYMBOL: Final = struct.Struct("<IBBHQQ")
#: A relocation: place, symbol and kind, addend.
RELOCATION: Final = struct.Struct("<QQq")
#: 64 bits, little end first.
MAGIC: Final = b"\x7fELF\x02\x01"
X86_64: Final = 62
