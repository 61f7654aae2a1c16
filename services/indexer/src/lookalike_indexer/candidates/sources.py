"""The sources that have files: how each is named, written and opened. Another is a module and a line here."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.candidates import ReducedCandidates
from lookalike_indexer.candidates.annoy import AnnoyCandidates, write_trees
from lookalike_indexer.candidates.hnsw import HnswCandidates, write_graph
from lookalike_indexer.candidates.ivf import IvfCandidates, write_ivf
from lookalike_indexer.candidates.reduction import Reducer
from lookalike_indexer.candidates.scan import ScanCandidates, write_scan
from lookalike_indexer.records import Index, Source


class Writer(Protocol):
    """Writes an index over unit rows [n, reduced_dim]."""

    def __call__(self, rows: NDArray[np.float32], path: Path, index: Index) -> None: ...


class Opener(Protocol):
    """Opens an index of `count` rows; raises OSError or ValueError for a file that is not what it should be."""

    def __call__(self, path: Path, index: Index, reducer: Reducer | None, count: int) -> ReducedCandidates: ...


class Kind(NamedTuple):
    file: str
    write: Writer
    open: Opener


KINDS: Final[dict[Source, Kind]] = {
    "annoy": Kind("trees-{0.reduced_dim}-{0.trees}.ann", write_trees, AnnoyCandidates),
    "scan": Kind("scan-{0.reduced_dim}.columns.f32", write_scan, ScanCandidates),
    "ivf": Kind("cells-{0.reduced_dim}.ivf", write_ivf, IvfCandidates),
    "hnsw": Kind("graph-{0.reduced_dim}-{0.links}.hnsw", write_graph, HnswCandidates),
}


def file_of(index: Index) -> str:
    """Return the name of an index's file in its build's folder."""
    return KINDS[index.source].file.format(index)


def write_index(rows: NDArray[np.float32], folder: Path, index: Index) -> None:
    """Write an index over unit `rows` [n, reduced_dim] into `folder`."""
    KINDS[index.source].write(rows, folder / file_of(index), index)


def open_index(folder: Path, index: Index, dim: int, count: int, reducer: Reducer | None) -> ReducedCandidates:
    """Open an index of `count` vectors of `dim` dimensions in `folder`; raises OSError or ValueError if it is not what it should be."""
    if index.reduced_dim == dim:
        reducer = None
    elif reducer is None or reducer.dim != dim or reducer.most < index.reduced_dim:
        raise ValueError(f"the projection in {folder} does not reduce {dim} dimensions to {index.reduced_dim}")
    return KINDS[index.source].open(folder / file_of(index), index, reducer, count)
