"""Bind steps in a row to shapes: layouts, memory, and one native call for all of them."""
