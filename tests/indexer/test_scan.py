from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike_indexer.candidates import Effort, scan
from lookalike_indexer.candidates.absent import Absent
from lookalike_indexer.candidates.reduction import Reduction
from lookalike_indexer.candidates.scan import ScanCandidates, best, write_scan
from lookalike_indexer.records import Index
from lookalike_retrieval import fit_pca, normalise


def units(count: int, dim: int = 24) -> NDArray[np.float32]:
    return normalise(np.random.default_rng(count).standard_normal((count, dim)))


@pytest.fixture
def vectors() -> NDArray[np.float32]:
    return units(300)


def open_scan(folder: Path, vectors: NDArray[np.float32], dims: int) -> ScanCandidates:
    reduction, index = Reduction(vectors, [4, 8]), Index("scan", dims)
    write_scan(reduction.rows(dims), folder / "rows", index)
    return ScanCandidates(folder / "rows", index, reduction.reducer(), len(vectors))


@pytest.mark.parametrize(("count", "depth"), [(1, 1), (50_000, 100), (1_000, 999), (1_000, 1_000), (1_003, 7), (640, 160), (641, 160)])
@pytest.mark.parametrize("ties", [False, True])
def test_the_best_places_are_those_of_a_sort(count: int, depth: int, ties: bool) -> None:
    scores = np.random.default_rng(3).standard_normal((3, count), dtype=np.float32)
    scores = np.round(scores, 1) if ties else scores
    for row, places in zip(scores, best(scores, depth), strict=True):
        assert len(set(places.tolist())) == depth
        assert sorted(row[places].tolist()) == sorted(row.tolist())[-depth:]


@pytest.mark.parametrize("tile", [8 << 20, 700])
@pytest.mark.parametrize("reduced_dim", [4, 8])
def test_candidates_are_the_best_live_rows_of_a_plain_loop_over_reduced_vectors(
    tmp_path: Path, vectors: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch, tile: int, reduced_dim: int
) -> None:
    monkeypatch.setattr(scan, "_TILE_SCORES", tile)
    source = open_scan(tmp_path, vectors, reduced_dim).at(Effort(0, 20))
    dead = np.zeros(300, np.bool_)
    dead[::3] = True
    queries = units(7)
    proposal = source.propose(queries, 3, Absent(dead))
    assert (proposal.search_k, proposal.source) == (0, "scan")
    projection = fit_pca(vectors, reduced_dim)
    reduced, reduced_queries = projection.apply(vectors), projection.apply(queries)
    for rows, ordered, query in zip(proposal.rows, source.ordered(queries, Effort(0, 20)), reduced_queries, strict=True):
        every = sorted(range(300), key=lambda row, query=query: -float(reduced[row] @ query))  # type: ignore[misc]
        assert set(rows.tolist()) == set([row for row in every if not dead[row]][:20])
        assert ordered.tolist() == every[:20]


def test_many_hits_are_looked_for_deeper_and_no_more_rows_are_given_than_live(tmp_path: Path, vectors: NDArray[np.float32]) -> None:
    source = open_scan(tmp_path, vectors, 4).at(Effort(0, 10))
    dead = np.zeros(300, np.bool_)
    assert [len(rows) for rows in source.propose(units(2), 50, Absent(dead)).rows] == [50, 50]
    assert len(source.propose(units(1), 200, Absent(dead)).rows[0]) == 200
    dead[:100] = True
    assert len(source.propose(units(1), 50, Absent(dead)).rows[0]) == 150
    dead[:] = False
    dead[5:] = True
    assert set(source.propose(units(1), 200, Absent(dead)).rows[0].tolist()) == {0, 1, 2, 3, 4}
    dead[:] = True
    assert [len(rows) for rows in source.propose(units(2), 3, Absent(dead)).rows] == [0, 0]
