from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike_indexer.candidates import Asked, Effort
from lookalike_indexer.candidates.absent import Absent
from lookalike_indexer.candidates.annoy import AnnoyCandidates, write_trees
from lookalike_indexer.candidates.exact import ExactCandidates, rows_of
from lookalike_indexer.candidates.reduction import PROJECTION_FILE, Reduction, open_reducer
from lookalike_indexer.candidates.sources import file_of, open_index, write_index
from lookalike_indexer.engines import require_engine
from lookalike_indexer.records import Index
from lookalike_retrieval import fit_pca, normalise
from lookalike_runtime.errors import FailedPrecondition


def units(count: int, dim: int = 16) -> NDArray[np.float32]:
    return normalise(np.random.default_rng(count).standard_normal((count, dim)))


def open_trees(folder: Path, vectors: NDArray[np.float32], effort: Effort = Effort(1000, 50)) -> AnnoyCandidates:  # noqa: B008
    reduction = Reduction(vectors, [8])
    index = Index("annoy", (reduction.dims or [vectors.shape[1]])[0], trees=10)
    write_trees(reduction.rows(index.reduced_dim), folder / "trees", index)
    return AnnoyCandidates(folder / "trees", index, reduction.reducer(), len(vectors)).at(effort)


def test_exact_proposes_the_nearest_live_rows() -> None:
    vectors, queries = units(200), units(3)
    dead = np.zeros(200, np.bool_)
    dead[::3] = True
    proposal = ExactCandidates(vectors).propose(queries, 5, Absent(dead))
    scores = np.where(dead, -2, queries @ vectors.T)
    np.testing.assert_array_equal(proposal.rows, np.argsort(-scores, axis=1)[:, :5])
    assert proposal.search_k == 0


def test_exact_proposes_nothing_where_all_are_dead() -> None:
    assert [len(rows) for rows in ExactCandidates(units(5)).propose(units(2), 3, Absent(np.ones(5, np.bool_))).rows] == [0, 0]


def test_a_choice_of_all_rows_is_the_array_itself() -> None:
    vectors = units(5)
    assert rows_of(vectors, np.arange(5)) is vectors
    assert len(rows_of(vectors, np.array([3, 1]))) == 2


@pytest.mark.parametrize("index", [Index("annoy", 8, trees=10), Index("scan", 8), Index("ivf", 8), Index("hnsw", 8, links=8)])
def test_the_same_vectors_make_the_same_bytes(tmp_path: Path, index: Index) -> None:
    vectors = units(300)
    for name in "ab":
        (tmp_path / name).mkdir()
        reduction = Reduction(vectors, [4, 8])
        write_index(reduction.rows(8), tmp_path / name, index)
        reduction.save(tmp_path / name, 8)
    for file in (file_of(index), PROJECTION_FILE):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("index", [Index("annoy", 8, trees=10), Index("scan", 8), Index("ivf", 8), Index("hnsw", 8, links=8)])
def test_an_index_of_another_shape_is_refused(tmp_path: Path, index: Index) -> None:
    vectors = units(300)
    reduction = Reduction(vectors, [4, 8])
    reducer = reduction.reducer()
    write_index(reduction.rows(8), tmp_path, index)
    assert len(open_index(tmp_path, index, 16, 300, reducer).ordered(vectors[:2], Effort(50, 10))) == 2
    with pytest.raises(ValueError, match="does not reduce"):
        open_index(tmp_path, index._replace(reduced_dim=9), 16, 300, reducer)
    with pytest.raises((ValueError, OSError)):
        open_index(tmp_path, index, 16, 299, reducer)
    (tmp_path / file_of(index)).unlink()
    with pytest.raises((ValueError, OSError)):
        open_index(tmp_path, index, 16, 300, reducer)


def test_one_fit_serves_all_dimensions_that_reduce(tmp_path: Path) -> None:
    vectors = units(300)
    reduction = Reduction(vectors, [8, 4, 16, 20, 1])
    assert reduction.dims == [4, 8]
    for dims in (4, 8):
        np.testing.assert_allclose(reduction.rows(dims), fit_pca(vectors, dims).apply(vectors), atol=1e-5)
    reduction.save(tmp_path, 8)
    reducer = open_reducer(tmp_path)
    assert reducer is not None
    projected = reducer.project(vectors[:9], 4)
    np.testing.assert_allclose(normalise(projected), reduction.rows(4)[:9], atol=1e-5)
    # A query alone is reduced another way.
    np.testing.assert_allclose(np.vstack([reducer.project(each[None], 4) for each in vectors[:9]]), projected, atol=1e-3)
    assert Reduction(normalise(np.ones((50, 16), np.float32)), [8]).dims == []


def test_annoy_proposes_no_dead_row_and_looks_deeper_for_them(tmp_path: Path) -> None:
    vectors = units(400)
    source = open_trees(tmp_path, vectors, Effort(400, 20))
    dead = np.zeros(400, np.bool_)
    few = source.propose(vectors[:5], 1, Absent(dead))
    assert few.search_k == 400
    assert all(len(rows) == 20 for rows in few.rows)
    dead[:200] = True
    half = source.propose(vectors[:5], 1, Absent(dead))
    assert half.search_k == 800
    assert all(len(rows) > 5 and not dead[rows].any() for rows in half.rows)


def test_annoy_looks_deeper_for_many_hits_but_as_told_if_told(tmp_path: Path) -> None:
    source = open_trees(tmp_path, units(400), Effort(400, 20))
    dead = np.zeros(400, np.bool_)
    many = source.propose(units(1), 100, Absent(dead))
    assert (len(many.rows[0]), many.search_k) == (100, 2000)
    dead[:200] = True
    # Three candidates a hit where many rows do not count, and twice as many rows to find them among.
    assert source.propose(units(1), 10, Absent(dead)).search_k == 1200
    assert source.propose(units(1), 100, Absent(dead), Asked(50)).search_k == 50


def test_vectors_that_cannot_be_reduced_are_indexed_as_they_are(tmp_path: Path) -> None:
    alike = normalise(np.ones((50, 16), np.float32))
    source = open_trees(tmp_path, alike)
    assert len(source.propose(alike[:1], 10, Absent(np.zeros(50, np.bool_))).rows[0]) == 50


def test_the_engine_hnsw_is_refused_where_hnswlib_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert require_engine("hnsw") == "hnsw"
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(FailedPrecondition, match="pip install") as refusal:
        require_engine("hnsw")
    assert refusal.value.reason == "ENGINE_UNSUPPORTED"
    assert require_engine("annoy") == "annoy"


def test_a_graph_proposes_no_dead_row_and_nothing_where_it_finds_too_few(tmp_path: Path) -> None:
    vectors, index = units(400), Index("hnsw", 16, links=8)
    write_index(vectors, tmp_path, index)
    source = open_index(tmp_path, index, 16, 400, None).at(Effort(40, 20))
    dead = np.zeros(400, np.bool_)
    assert [len(rows) for rows in source.propose(vectors[:3], 5, Absent(dead)).rows] == [20] * 3
    dead[:200] = True
    for rows in source.propose(vectors[:3], 5, Absent(dead)).rows:
        assert len(rows) > 5
        assert not dead[rows].any()
    # Places that no link leads to are not found: two rows alone in an index that is asked for more.
    write_index(vectors[:2], tmp_path, index)
    few = open_index(tmp_path, index, 16, 2, None).at(Effort(40, 20))
    assert [len(rows) for rows in few.propose(vectors[:2], 5, Absent(np.zeros(2, np.bool_))).rows] == [2, 2]
