"""The words that compiled functions and whoever fills them agree on: a module for each kind of block.

A block is a row of 64-bit words; constants are offsets in bytes, `COUNT` is how many words there are. 0 is the address
of nothing.
"""
