"""Memory that an index takes while it answers, each in a process of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

_QUERIES = 200


def resident_bytes(out: Path, dim: int) -> dict[str, int]:
    """Return by how much the resident memory of a process grows when it loads each of the indexes in `out` and searches it.

    Pages of mapped files that were read count: they are what should fit. hnswlib and faiss hold the vectors in theirs.
    """
    paths = (path for path in sorted(out.iterdir()) if path.suffix in {".ann", ".bin"} or path.is_dir())
    return {path.name: resident_growth(path, dim) for path in paths}


def resident_growth(path: Path, dim: int) -> int:
    """Return the same for one index, or one of our builds."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_growth, (path, dim))


def _growth(path: Path, dim: int) -> int:
    load = _loader(path, dim)
    queries = np.random.default_rng(1).standard_normal((_QUERIES, dim), dtype=np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    before = psutil.Process().memory_info().rss
    search = load()
    for query in queries:
        search(query[None])
    return int(psutil.Process().memory_info().rss - before)


def _loader(path: Path, dim: int) -> Callable[[], Callable[[np.ndarray], object]]:
    if path.is_dir():
        return lambda: _ours(path, dim)
    if path.suffix == ".ann":
        return lambda: _annoy(path, dim)
    return (lambda: _faiss(path)) if path.name.startswith("faiss") else (lambda: _hnswlib(path, dim))


def _ours(path: Path, dim: int) -> Callable[[np.ndarray], object]:
    from benchmarks.indexer.builds import space_of
    from benchmarks.indexer.contenders import view_of
    from lookalike_indexer.search import search
    from lookalike_indexer.served_build import open_build

    view = view_of(open_build(path, 1, space_of(dim)))
    return lambda queries: search(view, queries, 10)


def _annoy(path: Path, dim: int) -> Callable[[np.ndarray], object]:
    from annoy import AnnoyIndex

    index = AnnoyIndex(dim, "angular")
    index.load(str(path))
    return lambda queries: index.get_nns_by_vector(queries[0].tolist(), 10, 4_000)


def _hnswlib(path: Path, dim: int) -> Callable[[np.ndarray], object]:
    import hnswlib

    reduced = int(path.name.split("pca")[1].split("-")[0]) if "pca" in path.name else dim
    index = hnswlib.Index("ip", reduced)
    index.load_index(str(path))
    return lambda queries: index.knn_query(queries[:, :reduced], 10, num_threads=1)


def _faiss(path: Path) -> Callable[[np.ndarray], object]:
    import faiss

    index = faiss.read_index(str(path))
    return lambda queries: index.search(queries, 10)
