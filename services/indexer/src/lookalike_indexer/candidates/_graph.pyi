"""Search of a graph in layers, compiled from `cpp/graph.cpp`."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

class Graph:
    """`layers`, the lowest with all rows first: records uint8 [n, size], each as `candidates.layers.record_of(dims, links)` says."""

    def __init__(self, layers: Sequence[NDArray[np.uint8]], entry: int, dims: int, links: int) -> None:
        """Keep the layers, without a copy; a search begins at the node `entry` of the last.

        Raises ValueError where records are of another size, or lead to what does not exist.
        """

    def nearest(self, queries: NDArray[np.float32], width: int, depth: int) -> list[NDArray[np.int64]]:
        """Return the rows nearest to each of `queries` [q, dims] in direction, best first: the best `depth` of `width` kept in sight.

        Fewer where a query met a part of the graph with fewer. Raises ValueError for misfits and a width or depth of 0.
        """
