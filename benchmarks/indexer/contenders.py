"""Ways to search that are measured against each other: ours as a build plans them, and the libraries that others would take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import faiss
import hnswlib
import numpy as np
from annoy import AnnoyIndex
from numpy.typing import NDArray

from lookalike_indexer.candidates import NOTHING_ASKED, Asked
from lookalike_indexer.search import search
from lookalike_indexer.served_build import ServedBuild
from lookalike_indexer.view import Fresh, View
from lookalike_retrieval import fit_pca

Vectors = NDArray[np.float32]
Rows = Sequence[NDArray[Any]]
K = 10
_SEED = 1
_SETTINGS = {"source", "reduced_dim", "trees", "links", "search_k", "depth"}


class Find(Protocol):
    """Rows of the `k` nearest of each of `queries` [q, d], best first."""

    def __call__(self, queries: Vectors, k: int) -> Rows: ...


@dataclass(frozen=True)
class Contender:
    """One method with its settings. `timed` is what is timed, `found` what recall is measured of: `k` rows, or all that will be re-ranked.

    `kinds` are false for single queries, true for batches.
    """

    method: str
    settings: dict[str, Any]
    timed: Callable[[Vectors], object]
    found: Find
    kinds: Sequence[bool] = field(default=(False, True))


def view_of(build: ServedBuild) -> View:
    """Return what a search of a build without later writes sees."""
    nothing = Fresh([], np.empty((0, build.vectors.shape[1]), np.float32), np.zeros(0, np.bool_))
    return View(build.revision, build, np.zeros(len(build.ids), np.bool_), nothing)


def ours(method: str, build: ServedBuild, asked: Asked = NOTHING_ASKED) -> Iterator[Contender]:
    """A build as it plans itself, or as it answers what asks for a recall: for single queries and batches apart, as plans are."""
    view = view_of(build)
    for batch, few in ((False, 1), (True, 32)):

        def found(queries: Vectors, k: int, few: int = few) -> Rows:  # noqa: ARG001 - candidates are ranked exactly, however many
            parts = (queries[at : at + few] for at in range(0, len(queries), few))
            return [rows for part in parts for rows in _full(build, view, part, asked, few)]

        entry = build.candidates.propose(np.resize(build.vectors[:1], (few, build.vectors.shape[1])), K, view.absent, asked).entry
        settings = {"source": "exact"} if entry is None else entry.model_dump(include=_SETTINGS)
        settings |= {"asked_recall": asked.recall} if asked.recall else {}
        yield Contender(method, settings, lambda queries: search(view, queries, K, asked=asked), found, (batch,))


def _full(build: ServedBuild, view: View, part: Vectors, asked: Asked, few: int) -> Rows:
    # The last batch is filled up, so that it is one.
    filled = part.take(range(few), axis=0, mode="wrap")
    # One more where exactly ten are proposed: the probe itself.
    return build.candidates.propose(filled, K, view.absent, asked._replace(left_out=1)).rows[: len(part)]


def raw_annoy(vectors: Vectors, out: Path, trees: int, search_ks: Sequence[int]) -> Iterator[Contender]:
    """Annoy over full vectors."""
    index = AnnoyIndex(vectors.shape[1], "angular")
    index.set_seed(_SEED)
    for row, vector in enumerate(vectors):
        index.add_item(row, vector.tolist())
    index.build(trees, n_jobs=1)
    index.save(str(out / f"annoy-{trees}.ann"))
    for search_k in search_ks:

        def found(queries: Vectors, k: int, search_k: int = search_k) -> Rows:
            return [np.array(index.get_nns_by_vector(query, k, search_k)) for query in queries.tolist()]

        yield Contender("annoy-full", {"trees": trees, "search_k": search_k}, partial(found, k=K), found)


def hnswlib_full(vectors: Vectors, out: Path, links: int, considered: int, efs: Sequence[int]) -> Iterator[Contender]:
    """hnswlib over full vectors."""
    index = _graph(vectors, links, considered)
    index.save_index(str(out / f"hnswlib-{links}-{considered}.bin"))
    for ef in efs:

        def found(queries: Vectors, k: int, ef: int = ef) -> Rows:
            index.set_ef(max(ef, k))
            rows: NDArray[Any] = index.knn_query(queries, k, num_threads=1)[0]
            return list(rows)

        settings = {"M": links, "ef_construction": considered, "ef": ef}
        yield Contender("hnswlib-full", settings, partial(found, k=K), found)


def hnswlib_reduced(
    vectors: Vectors, out: Path, dims: int, links: int, considered: int, efs: Sequence[int], depths: Sequence[int]
) -> Iterator[Contender]:
    """hnswlib over vectors reduced by PCA, re-ranked with full ones."""
    projection = fit_pca(vectors, dims)
    index = _graph(projection.apply(vectors), links, considered)
    index.save_index(str(out / f"hnswlib-pca{dims}-{links}-{considered}.bin"))
    mean, components = projection.mean, projection.components.T.copy()
    for ef, depth in ((ef, depth) for ef in efs for depth in depths if depth <= ef):

        def found(queries: Vectors, k: int, ef: int = ef, depth: int = depth) -> Rows:
            index.set_ef(ef)
            rows = index.knn_query((queries - mean) @ components, depth, num_threads=1)[0]
            return [each[np.argsort(-(vectors[each] @ query))[:k]] for each, query in zip(rows, queries, strict=True)]

        settings = {"dims": dims, "M": links, "ef_construction": considered, "ef": ef, "depth": depth}
        yield Contender("hnswlib-reduced", settings, partial(found, k=K), found)


def faiss_flat(vectors: Vectors, out: Path) -> Iterator[Contender]:
    """faiss' exact search."""
    return _faiss("faiss-flat", faiss.IndexFlatIP(vectors.shape[1]), vectors, out / "faiss-flat.bin", {}, None)


def faiss_hnsw(vectors: Vectors, out: Path, links: int, considered: int, efs: Sequence[int]) -> Iterator[Contender]:
    """faiss' graph over full vectors."""
    index = faiss.IndexHNSWFlat(vectors.shape[1], links, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = considered
    return _faiss("faiss-hnsw", index, vectors, out / f"faiss-hnsw-{links}.bin", {"M": links, "ef_construction": considered}, efs)


def _faiss(
    method: str, index: Any, vectors: Vectors, path: Path, settings: dict[str, Any], efs: Sequence[int] | None
) -> Iterator[Contender]:
    faiss.omp_set_num_threads(1)
    index.add(np.ascontiguousarray(vectors))
    faiss.write_index(index, str(path))
    for ef in efs or (None,):

        def found(queries: Vectors, k: int, ef: int | None = ef) -> Rows:
            if ef is not None:
                index.hnsw.efSearch = ef
            rows: NDArray[Any] = index.search(queries, k)[1]
            return list(rows)

        own = {"ef": ef} if ef is not None else {}
        yield Contender(method, settings | own, partial(found, k=K), found)


def _graph(vectors: Vectors, links: int, considered: int) -> Any:
    index = hnswlib.Index("ip", vectors.shape[1])
    index.init_index(len(vectors), M=links, ef_construction=considered, random_seed=_SEED)
    index.add_items(vectors, num_threads=1)
    return index
