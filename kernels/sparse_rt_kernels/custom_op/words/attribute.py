"""An attribute of an operator: its name, and what kind of value it has."""

from typing import Final

NAME: Final = 8 * 0
KIND: Final = 8 * 1
COUNT: Final = 2

#: Kinds of values.
INT, FLOAT, TEXT, INTS, FLOATS, TENSOR = range(6)
