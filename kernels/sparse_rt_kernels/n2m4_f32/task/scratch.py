"""Scratch memory of the tasks of the float32 2:4 family."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Scratch"]


class Scratch(NamedTuple):
    """Scratch memory of a task.

    Attributes
    ----------
    floats
        64-byte aligned: panel blocks and sums; see :mod:`..blocking.row_lanes` and :mod:`..blocking.channel_lanes`.
    copies, lane_table
        (:data:`.panels.COPIES`, 4) and (3 * 16 * 6,).
    """

    floats: NDArray[np.float32]
    copies: NDArray[np.int64]
    lane_table: NDArray[np.int32]
