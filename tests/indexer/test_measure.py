from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike_indexer.builds.measure import choose_probes, lower_bound, median_milliseconds, recalls
from lookalike_indexer.candidates import NOTHING_ASKED, Asked, Effort, Proposal
from lookalike_indexer.candidates.absent import Absent
from lookalike_indexer.candidates.annoy import AnnoyCandidates, write_trees
from lookalike_indexer.candidates.exact import ExactCandidates
from lookalike_indexer.candidates.reduction import Reduction
from lookalike_indexer.records import Index
from lookalike_indexer.served_build import ServedBuild
from lookalike_indexer.view import Fresh, View
from lookalike_retrieval import augment, normalise


def test_the_lower_end_is_that_of_means_drawn_again_and_again() -> None:
    rng = np.random.default_rng(3)
    for found in (0.95, 0.98):
        shares = rng.binomial(10, found, 1_000) / 10
        drawn = rng.choice(shares, (4_000, 1_000)).mean(axis=1)
        assert lower_bound(shares) == pytest.approx(np.percentile(drawn, 2.5), abs=2e-3)
        assert lower_bound(shares) <= np.percentile(drawn, 2.5)


def test_a_perfect_measurement_of_few_probes_is_not_taken_for_certain() -> None:
    assert lower_bound(np.ones(20)) < 0.9 < lower_bound(np.ones(1_000)) < 1


@pytest.mark.parametrize("dba", [0, 3])
def test_recall_is_what_a_plain_loop_counts_with_probes_left_out_on_both_sides(tmp_path: Path, dba: int) -> None:
    rng = np.random.default_rng(2)
    raw = normalise(rng.standard_normal((400, 16)))
    served = augment(raw, dba)
    reduction, index = Reduction(served, [4]), Index("annoy", 4, trees=4)
    write_trees(reduction.rows(4), tmp_path / "trees", index)
    source = AnnoyCandidates(tmp_path / "trees", index, reduction.reducer(), 400)
    probes = choose_probes(raw, served, 100)
    assert len(probes.rows) == 40
    places = [(1, [5, 20]), (10, [20, 60]), (100, [150, 400])]
    measured = recalls(source.ordered(probes.queries, Effort(800, 400)), probes, places, 400)
    assert [len(each) for each in measured] == [2, 2, 2]
    for (k, depths), found_recalls in zip(places, measured, strict=True):
        for depth, recall in zip(depths, found_recalls, strict=True):
            shares: list[float] = []
            alone: list[float] = []
            proposed = source.ordered(probes.queries, Effort(800, depth))
            for row, candidates in zip(probes.rows.tolist(), proposed, strict=True):
                query = raw[row]
                truth = sorted((each for each in range(400) if each != row), key=lambda each: -float(served[each] @ query))[:k]
                (lone,) = source.ordered(query[None], Effort(800, depth))
                for rows, counted in ((candidates, shares), (lone, alone)):
                    found = sorted((each for each in rows.tolist() if each != row), key=lambda each: -float(served[each] @ query))[:k]
                    counted.append(len(set(found) & set(truth)) / k)
            assert recall.mean == pytest.approx(np.mean(shares), abs=1e-9)
            assert recall.low == lower_bound(np.array(shares))
            # A query alone is reduced with less precision: what is served so differs by a candidate at the edge now and then.
            assert recall.mean == pytest.approx(np.mean(alone), abs=5e-3)


def test_equals_of_the_last_place_count_as_found() -> None:
    vectors = normalise(np.array([[1, 0], [1, 0], [1, 0], [0, 1], [0, 1], [-1, 0], [-1, 0], [-1, 0], [-1, 0], [-1, 0]], np.float32))
    probes = choose_probes(vectors, vectors, 1)
    (row,) = probes.rows.tolist()
    equals = [each for each in range(10) if each != row and np.array_equal(vectors[each], vectors[row])]
    for each in equals:
        assert recalls([np.array([each])], probes, [(1, [1])], 10)[0][0].mean == 1.0


class Remembering(ExactCandidates):
    """Keeps what it is asked, in a list that others share."""

    def __init__(self, vectors: NDArray[np.float32], name: str, asked: list[tuple[str, bytes]]) -> None:
        super().__init__(vectors)
        self._name = name
        self._asked = asked

    def propose(self, queries: NDArray[np.float32], k: int, absent: Absent, asked: Asked = NOTHING_ASKED) -> Proposal:
        self._asked.append((self._name, queries.tobytes()))
        return super().propose(queries, k, absent, asked)


@pytest.mark.parametrize("batch", [False, True])
def test_what_is_timed_has_the_same_queries_in_no_turn_those_of_another(batch: bool) -> None:
    vectors = normalise(np.random.default_rng(4).standard_normal((4_000, 8)))
    asked: list[tuple[str, bytes]] = []
    sources = [Remembering(vectors, name, asked) for name in "abc"]
    build = ServedBuild(1, 1, [str(row) for row in range(4_000)], {}, vectors, sources[0], sources[0])
    view = View(1, build, np.zeros(4_000, np.bool_), Fresh([], np.empty((0, 8), np.float32), np.zeros(0, np.bool_)))
    median_milliseconds(view, sources, choose_probes(vectors, vectors, 10), 10, batch, runs=8)
    turns = [dict(asked[start : start + 3]) for start in range(0, 27, 3)]
    assert all(set(turn) == {"a", "b", "c"} and len(set(turn.values())) == 3 for turn in turns)
    each = [{turn[name] for turn in turns} for name in "abc"]
    assert len(each[0]) == 9
    assert each[0] == each[1] == each[2]
