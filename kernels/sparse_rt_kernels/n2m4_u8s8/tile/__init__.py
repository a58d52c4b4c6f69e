"""Register tiles of the int8 2:4 family: what LLVM is told to emit."""
