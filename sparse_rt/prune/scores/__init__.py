"""How much each weight matters: a method of pruning is a score, and goes for all patterns.

A method is a file of its own and a line in :data:`METHODS`.
"""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from sparse_rt.prune.scores.magnitude import magnitude

__all__ = ["METHODS", "Score"]

Score = Callable[[NDArray[Any]], NDArray[Any]]
"""Returns a number for each element of a weight, or of a piece of it; larger ones matter more, none is negative."""

METHODS: dict[str, Score] = {"magnitude": magnitude}
"""The methods by name."""
