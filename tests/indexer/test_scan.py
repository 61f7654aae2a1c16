from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike_indexer.candidates import Effort, scan
from lookalike_indexer.candidates.scan import ScanCandidates, scan_files, write_scans
from lookalike_retrieval import fit_pca, normalise


def units(count: int, dim: int = 24) -> NDArray[np.float32]:
    return normalise(np.random.default_rng(count).standard_normal((count, dim)))


@pytest.fixture
def vectors() -> NDArray[np.float32]:
    return units(300)


@pytest.mark.parametrize("tile", [8 << 20, 700])
@pytest.mark.parametrize("reduced_dim", [4, 8])
def test_candidates_are_the_best_live_rows_of_a_plain_loop_over_reduced_vectors(
    tmp_path: Path, vectors: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch, tile: int, reduced_dim: int
) -> None:
    monkeypatch.setattr(scan, "_TILE_SCORES", tile)
    assert write_scans(vectors, tmp_path, [8, 4]) == [4, 8]
    source = ScanCandidates(tmp_path, 24, Effort(0, 0), reduced_dim).at(Effort(0, 20))
    dead = np.zeros(300, np.bool_)
    dead[::3] = True
    queries = units(7)
    proposal = source.propose(queries, 3, dead)
    assert (proposal.search_k, proposal.source) == (0, "scan")
    projection = fit_pca(vectors, reduced_dim)
    reduced, reduced_queries = projection.apply(vectors), projection.apply(queries)
    for rows, ordered, query in zip(proposal.rows, source.ordered(queries, Effort(0, 20)), reduced_queries, strict=True):
        every = sorted(range(300), key=lambda row, query=query: -float(reduced[row] @ query))  # type: ignore[misc]
        assert set(rows.tolist()) == set([row for row in every if not dead[row]][:20])
        assert ordered.tolist() == every[:20]


def test_many_hits_are_looked_for_deeper_and_no_more_rows_are_given_than_live(tmp_path: Path, vectors: NDArray[np.float32]) -> None:
    write_scans(vectors, tmp_path, [4])
    source = ScanCandidates(tmp_path, 24, Effort(0, 10), 4)
    dead = np.zeros(300, np.bool_)
    assert [len(rows) for rows in source.propose(units(2), 50, dead).rows] == [100, 100]
    assert len(source.propose(units(1), 200, dead).rows[0]) == 300
    dead[5:] = True
    assert set(source.propose(units(1), 200, dead).rows[0].tolist()) == {0, 1, 2, 3, 4}
    dead[:] = True
    assert [len(rows) for rows in source.propose(units(2), 3, dead).rows] == [0, 0]


def test_only_dimensions_that_reduce_are_written(tmp_path: Path, vectors: NDArray[np.float32]) -> None:
    assert write_scans(vectors, tmp_path, [24, 32, 1]) == []
    assert write_scans(normalise(np.ones((50, 24), np.float32)), tmp_path, [8]) == []
    assert list(tmp_path.iterdir()) == []


def test_files_of_another_shape_are_refused(tmp_path: Path, vectors: NDArray[np.float32]) -> None:
    write_scans(vectors, tmp_path, [4, 8])
    (tmp_path / scan_files(4)[1]).write_bytes((tmp_path / scan_files(8)[1]).read_bytes())
    with pytest.raises(ValueError, match="shape"):
        ScanCandidates(tmp_path, 24, Effort(0, 10), 4)
