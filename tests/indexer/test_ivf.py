from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike_indexer.candidates import Effort
from lookalike_indexer.candidates._cells import Cells
from lookalike_indexer.candidates.absent import Absent
from lookalike_indexer.candidates.ivf import IvfCandidates, cells_of, write_ivf
from lookalike_indexer.candidates.reduction import Reduction
from lookalike_indexer.records import Index
from lookalike_retrieval import fit_pca, normalise

COUNT = 400


def units(count: int, dim: int = 24) -> NDArray[np.float32]:
    return normalise(np.random.default_rng(count).standard_normal((count, dim)))


@pytest.fixture
def vectors() -> NDArray[np.float32]:
    return units(COUNT)


def open_cells(folder: Path, vectors: NDArray[np.float32], dims: int) -> IvfCandidates:
    reduction, index = Reduction(vectors, [4, 8]), Index("ivf", dims)
    write_ivf(reduction.rows(dims), folder / "cells", index)
    return IvfCandidates(folder / "cells", index, None if dims == vectors.shape[1] else reduction.reducer(), len(vectors))


@pytest.mark.parametrize("dims", [4, 8, 24])
def test_candidates_of_all_cells_are_the_best_live_rows_of_a_plain_loop(tmp_path: Path, vectors: NDArray[np.float32], dims: int) -> None:
    source = open_cells(tmp_path, vectors, dims).at(Effort(COUNT, 20))
    dead = np.zeros(COUNT, np.bool_)
    dead[::3] = True
    queries = units(7)
    proposal = source.propose(queries, 3, Absent(dead))
    assert (proposal.search_k, proposal.source) == (0, "ivf")
    projection = fit_pca(vectors, dims) if dims < 24 else None
    reduced, reduced_queries = (projection.apply(each) if projection else each for each in (vectors, queries))
    for rows, ordered, query in zip(proposal.rows, source.ordered(queries, Effort(COUNT, 20)), reduced_queries, strict=True):
        every = sorted(range(COUNT), key=lambda row, query=query: -float(reduced[row] @ query))  # type: ignore[misc]
        assert set(rows.tolist()) == set([row for row in every if not dead[row]][:20])
        assert ordered.tolist() == every[:20]


def test_only_the_nearest_cells_are_looked_through(tmp_path: Path) -> None:
    # Ten rows close to each of as many directions as there are cells.
    cells = cells_of(COUNT)
    near = np.repeat(np.eye(cells, dtype=np.float32), COUNT // cells, axis=0)
    vectors = normalise(near + 0.01 * np.random.default_rng(1).standard_normal(near.shape))
    source = open_cells(tmp_path, vectors, cells)
    for row in (0, 57, 399):
        whole = source.ordered(vectors[row : row + 1], Effort(COUNT, COUNT))[0]
        part = source.ordered(vectors[row : row + 1], Effort(4 * COUNT // cells, COUNT))[0]
        assert 10 <= len(part) < COUNT / 3
        assert part[0] == row
        assert set(part[:10].tolist()) == set(whole[:10].tolist()) == set(range(row // 10 * 10, row // 10 * 10 + 10))
        # What is left out lies in other cells: the order of the rest is the same.
        assert part.tolist() == [each for each in whole.tolist() if each in set(part.tolist())]


def test_more_is_looked_through_for_many_hits_and_where_rows_are_absent(tmp_path: Path, vectors: NDArray[np.float32]) -> None:
    source = open_cells(tmp_path, vectors, 8).at(Effort(40, 10))
    dead = np.zeros(COUNT, np.bool_)
    few = source.effort(1, 5, Absent(dead))
    assert source.effort(1, 50, Absent(dead)) > few
    assert all(len(rows) == 10 for rows in source.propose(units(3), 5, Absent(dead)).rows)
    assert all(len(rows) >= 50 for rows in source.propose(units(3), 50, Absent(dead)).rows)
    dead[: COUNT // 2] = True
    assert source.effort(1, 5, Absent(dead)) > few
    assert all((rows >= COUNT // 2).all() for rows in source.propose(units(3), 5, Absent(dead)).rows)
    dead[:] = True
    assert [len(rows) for rows in source.propose(units(2), 3, Absent(dead)).rows] == [0, 0]


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_few_rows_and_equal_ones_have_cells_too(tmp_path: Path, count: int) -> None:
    rows = np.repeat(units(1, 4), count, axis=0)
    write_ivf(rows, tmp_path / "cells", Index("ivf", 4))
    source = IvfCandidates(tmp_path / "cells", Index("ivf", 4), None, count)
    (found,) = source.ordered(rows[:1], Effort(count * count, count))
    assert sorted(found.tolist()) == list(range(count))


def misfits() -> dict[str, Any]:
    good = {"centres": units(2, 4), "starts": np.array([0, 1, 3], np.uint32), "order": np.array([2, 0, 1], np.uint32), "rows": units(3, 4)}
    return {
        "centres of other dimensions": good | {"centres": units(2, 5)},
        "too few cells": good | {"centres": units(1, 4)},
        "a late first cell": good | {"starts": np.array([1, 1, 3], np.uint32)},
        "a cell before the one before": good | {"starts": np.array([0, 4, 3], np.uint32)},
        "an end before the last row": good | {"starts": np.array([0, 1, 2], np.uint32)},
        "a row that does not exist": good | {"order": np.array([2, 0, 3], np.uint32)},
        "too few rows": good | {"rows": units(2, 4)},
    }


@pytest.mark.parametrize("name", misfits())
def test_parts_that_do_not_fit_each_other_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"cell|centres"):
        Cells(**misfits()[name])


def test_searches_that_do_not_fit_the_cells_are_refused() -> None:
    cells = Cells(units(1, 4), np.array([0, 3], np.uint32), np.arange(3, dtype=np.uint32), units(3, 4))
    with pytest.raises(ValueError, match="queries"):
        cells.nearest(units(1, 5), 1, 1, None)
    with pytest.raises(ValueError, match="depth"):
        cells.nearest(units(1, 4), 1, 0, None)
    with pytest.raises(ValueError, match="absent"):
        cells.nearest(units(1, 4), 1, 1, np.zeros(2, np.bool_))
    assert [rows.tolist() for rows in cells.nearest(units(3, 4)[:0], 1, 1, None)] == []
