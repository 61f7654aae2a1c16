"""Search of an inverted file, compiled from `cpp/cells.cpp`."""

import numpy as np
from numpy.typing import NDArray

class Cells:
    """`rows` [n, d] in cells around `centres` [c, d]: those from `starts[i]` to `starts[i + 1]` are cell i's, and are the rows `order`."""

    def __init__(
        self, centres: NDArray[np.float32], starts: NDArray[np.uint32], order: NDArray[np.uint32], rows: NDArray[np.float32]
    ) -> None:
        """Keep the arrays, without a copy. Raises ValueError where they do not fit each other."""

    def nearest(
        self, queries: NDArray[np.float32], looked_at: int, depth: int, absent: NDArray[np.bool_] | None
    ) -> list[NDArray[np.int64]]:
        """Return the `depth` best rows, ties by row, in the `looked_at` nearest cells of each of `queries` [q, d], best first.

        Rows that are `absent` [n] are left out before. Raises ValueError for misfits and a depth of 0.
        """
