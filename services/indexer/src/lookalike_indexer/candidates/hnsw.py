"""hnswlib's graph over reduced or full vectors: an optional extra, by far the fastest with many items.

hnswlib makes the graph, and it is searched here, two to three times as fast (docs/decisions/0019).

Source: Y. Malkov, D. Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small World graphs",
2016, arXiv:1603.09320; github.com/nmslib/hnswlib.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.candidates import NOTHING_ASKED, Asked, Effort, Proposal, effort_among, present
from lookalike_indexer.candidates._graph import Graph
from lookalike_indexer.candidates.absent import Absent
from lookalike_indexer.candidates.layers import read_layers, write_layers
from lookalike_indexer.candidates.reduction import Reducer
from lookalike_indexer.records import Index
from lookalike_runtime.errors import FailedPrecondition

# Items considered as neighbours of each that is added.
CONSIDERED: Final = 200
_MODULE = "hnswlib"
_SPACE = "ip"
_SEED = 20160330


def require_hnsw() -> None:
    """Raise FailedPrecondition unless hnswlib is installed."""
    if importlib.util.find_spec(_MODULE) is None:
        message = "the server lacks hnswlib, which the engine hnsw needs: pip install 'lookalike-indexer[hnsw]', or choose another engine"
        raise FailedPrecondition("ENGINE_UNSUPPORTED", message, metadata={"engine": "hnsw"})


class HnswCandidates:
    """The graph of one build. An effort's `search_k` is the size of the list of candidates, `ef` in the paper."""

    def __init__(self, path: Path, index: Index, reducer: Reducer | None, count: int, effort: Effort = Effort(1, 1)) -> None:  # noqa: B008
        """Read what `write_graph` wrote of `count` rows, which needs no hnswlib; raises ValueError for a file of another shape."""
        self._reducer = reducer
        self._dims = index.reduced_dim
        self._links = index.links
        self._graph = _read(path, index, count)
        self._effort = effort

    def at(self, effort: Effort) -> HnswCandidates:
        other = copy.copy(self)
        other._effort = effort
        return other

    def propose(self, queries: NDArray[np.float32], k: int, absent: Absent, asked: Asked = NOTHING_ASKED) -> Proposal:  # noqa: ARG002
        return Proposal(present(self.ordered(queries, effort_among(self._effort, k, absent)), absent), 0, "hnsw")

    def effort(self, queries: int, k: int, absent: Absent, asked: Asked = NOTHING_ASKED) -> int:  # noqa: ARG002
        return effort_among(self._effort, k, absent).search_k * self._links

    def ordered(self, queries: NDArray[np.float32], effort: Effort) -> list[NDArray[np.int64]]:
        reduced = queries if self._reducer is None else self._reducer.project(queries, self._dims)
        return self._graph.nearest(reduced, max(effort.search_k, effort.depth), effort.depth)


def write_graph(rows: NDArray[np.float32], path: Path, index: Index) -> None:
    """Write a graph of `index.links` links an item over unit `rows` [n, reduced_dim]; the same call gives the same bytes."""
    graph = importlib.import_module(_MODULE).Index(_SPACE, index.reduced_dim)
    graph.init_index(len(rows), M=index.links, ef_construction=CONSIDERED, random_seed=_SEED)
    graph.add_items(rows, num_threads=1)
    write_layers(graph.__getstate__()[0], rows, path, _most(index))


def _read(path: Path, index: Index, count: int) -> Graph:
    layers = read_layers(path, index.reduced_dim, _most(index), count)
    return Graph(layers.records, layers.entry, index.reduced_dim, _most(index))


def _most(index: Index) -> int:
    """Return how many links a node has at most: in the lowest layer twice as many as in the others."""
    return 2 * index.links
