"""What is planned is what answers: real builds of clustered vectors, held against brute force."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike_indexer.admission import Offer
from lookalike_indexer.builds import contest, grid
from lookalike_indexer.builds.job import Job
from lookalike_indexer.builds.stages import run_build
from lookalike_indexer.candidates import NOTHING_ASKED, Asked, Candidates, Proposal
from lookalike_indexer.candidates.absent import Absent
from lookalike_indexer.candidates.exact import ExactCandidates
from lookalike_indexer.candidates.planned import PlannedCandidates
from lookalike_indexer.candidates.sources import file_of
from lookalike_indexer.collection import ITEMS_FILE, OpenCollection, create_folder
from lookalike_indexer.records import BuildReport, Collection, Dba, Engine, Index, PlanEntry, Source, Space
from lookalike_indexer.search import search
from lookalike_indexer.served_build import ServedBuild, open_build
from lookalike_indexer.store import NewItem
from lookalike_indexer.view import Fresh, View
from lookalike_retrieval import normalise

COUNT, DIM = 1_200, 96
SPACE = Space(fingerprint="ls1:" + "a" * 64, model="shoes", version=1, profile="plain", dim=DIM)
Build = Callable[..., tuple[Path, BuildReport]]


def clustered() -> NDArray[np.float32]:
    """As embeddings are: few directions carry most, items stand in groups of ten."""
    rng = np.random.default_rng(4)
    scales = np.arange(1, DIM + 1) ** -0.7
    centres = rng.standard_normal((COUNT // 10, DIM))
    return normalise((centres[rng.integers(len(centres), size=COUNT)] + 0.5 * rng.standard_normal((COUNT, DIM))) * scales)


@pytest.fixture
def build(tmp_path: Path) -> Build:
    folder = tmp_path / "items"
    create_folder(folder)
    record = Collection(uid="u", name="c", space=SPACE, engine="annoy", dba=Dba(), recall_target=0.9, create_time=0)
    collection = OpenCollection(folder, record)
    collection.upsert([Offer(NewItem(f"{n:05d}")) for n in range(COUNT)], clustered())
    collection.close()

    def make(*, engine: Engine = "annoy", force_engine: bool = False) -> tuple[Path, BuildReport]:
        target = tmp_path / "build"
        target.mkdir()
        job = Job(
            database=folder / ITEMS_FILE, folder=target, space=SPACE, engine=engine, dba=Dba(),
            trees=20, reduced_dim=32, force_engine=force_engine, recall_target=0.9, exact_below=0,
        )  # fmt: skip
        return target, run_build(job, lambda _: None)

    return make


def prefer(monkeypatch: pytest.MonkeyPatch, source: Source) -> None:
    """Let one source seem quick and the others slow: only clocks are replaced, recalls are measured."""

    def times_of(_: object, entries: Sequence[PlanEntry], runs: int | None) -> list[float]:
        return [(1.0 if each.source == source else 100.0) + each.depth / 1e4 + each.search_k / 1e7 for each in entries]

    monkeypatch.setattr(contest.Contest, "_times", times_of)


def view_of(build: ServedBuild) -> View:
    return View(1, build, np.zeros(COUNT, np.bool_), Fresh([], np.empty((0, DIM), np.float32), np.zeros(0, np.bool_)))


def refuse(*_: object) -> None:
    raise AssertionError("exact search stood in for the engine")


@pytest.mark.parametrize("queries", [1, 32])
@pytest.mark.parametrize("source", ["annoy", "scan", "ivf", "hnsw"])
def test_each_source_reaches_its_planned_recall_by_itself(
    build: Build, monkeypatch: pytest.MonkeyPatch, source: Source, queries: int
) -> None:
    prefer(monkeypatch, source)
    folder, report = build(engine="hnsw" if source == "hnsw" else "annoy")
    opened = open_build(folder, 1, SPACE)
    monkeypatch.setattr(ExactCandidates, "propose", refuse)
    vectors = opened.vectors
    entries = {(entry.k, entry.batch): entry for entry in report.plan}
    for k in (1, 10, 100):
        entry = entries[k, queries >= 8]
        assert (entry.source, entry.recall_low >= 0.9) == (source, True)
        shares = []
        for start in range(0, 320, queries * (1 if queries > 1 else 8)):
            rows = range(start, start + queries)
            found = search(view_of(opened), np.asarray(vectors[rows]), k)
            assert (found.source, found.exact) == (source, False)
            for row, hits in zip(rows, found.hits, strict=True):
                truth = sorted(range(COUNT), key=lambda each, row=row: -float(vectors[each] @ vectors[row]))[:k]  # type: ignore[misc]
                shares.append(len({int(each) for each in hits.ids} & set(truth)) / k)
        assert np.mean(shares) >= 0.9
        assert np.mean(shares) == pytest.approx(entry.recall, abs=0.08)


@pytest.mark.parametrize("source", ["annoy", "scan", "ivf", "exact", "hnsw"])
def test_a_build_keeps_the_files_of_its_plan_alone(build: Build, monkeypatch: pytest.MonkeyPatch, source: Source) -> None:
    prefer(monkeypatch, source)
    folder, report = build(engine="hnsw" if source == "hnsw" else "annoy")
    names = {path.name for path in folder.iterdir()} - {"ids.json", "manifest.json", "vectors.f32"}
    expected = {file_of(entry.index) for entry in report.plan if entry.source != "exact"}
    assert names == expected | ({"projection.npy"} if expected else set())
    # What lost is reported nevertheless.
    assert {each.source for each in report.measured} >= {"scan", "ivf", "exact", report.engine if source == "hnsw" else "annoy"}
    assert (report.engine == "exact") == (source == "exact")
    assert bool(report.trees) == (source == "annoy")
    assert (report.chosen is not None) == (source == "annoy")


def test_the_same_build_answers_the_same_after_reopening(build: Build) -> None:
    folder, report = build()
    queries = np.asarray(clustered()[:40])
    answers = []
    for _ in range(2):
        view = view_of(open_build(folder, 1, SPACE))
        answers.append([search(view, queries[:count], k) for count in (1, 40) for k in (1, 10, 70, 1000)])
    assert answers[0] == answers[1]
    entries = {(entry.k, entry.batch): entry.source for entry in report.plan}
    expected = [entries[k, batch] for batch in (False, True) for k in (1, 10, 100, 1000)]
    assert [found.source for found in answers[0]] == expected


def test_a_search_goes_by_the_smallest_planned_number_of_hits_that_suffices(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, "scan")
    folder, report = build()
    opened = open_build(folder, 1, SPACE)
    assert isinstance(opened.candidates, PlannedCandidates)
    depths = {(entry.k, entry.batch): entry.depth for entry in report.plan}
    dead = np.zeros(COUNT, np.bool_)
    for k, planned, count in ((1, 1, 1), (2, 10, 1), (10, 10, 7), (11, 100, 1), (100, 100, 8)):
        proposal = opened.candidates.propose(np.asarray(clustered()[:count]), k, Absent(dead))
        assert {len(rows) for rows in proposal.rows} == {depths[planned, count >= 8]}


class Noting:
    """Notes the nodes that it was asked for."""

    def __init__(self) -> None:
        self.asked: list[int | None] = []

    def propose(self, queries: NDArray[np.float32], k: int, absent: Absent, asked: Asked = NOTHING_ASKED) -> Proposal:
        self.asked.append(asked.search_k)
        return Proposal([], 0)

    def effort(self, queries: int, k: int, absent: Absent, asked: Asked = NOTHING_ASKED) -> int:
        raise NotImplementedError


def test_search_k_asks_for_annoy_where_the_plan_has_it_and_is_without_meaning_elsewhere() -> None:
    vectors = clustered()
    query, dead = np.asarray(vectors[:1]), np.zeros(COUNT, np.bool_)
    annoy, scan = Noting(), Noting()
    entries: list[tuple[PlanEntry, Candidates]] = [
        (PlanEntry(k=1, batch=False, source="annoy", milliseconds=1), annoy),
        (PlanEntry(k=10, batch=False, source="scan", milliseconds=1), scan),
    ]
    planned = PlannedCandidates(entries, ExactCandidates(vectors))
    planned.propose(query, 10, Absent(dead))
    assert (annoy.asked, scan.asked) == ([], [None])
    planned.propose(query, 10, Absent(dead), Asked(77))
    assert (annoy.asked, scan.asked) == ([77], [None])
    without = PlannedCandidates(entries[1:], ExactCandidates(vectors))
    without.propose(query, 10, Absent(dead), Asked(77))
    assert scan.asked == [None, 77]
    # What no entry is for is exact.
    assert without.propose(query, 11, Absent(dead)).source == "exact"


def test_a_forced_engine_answers_every_search_and_takes_its_search_k(build: Build) -> None:
    folder, report = build(force_engine=True)
    assert {entry.source for entry in report.plan} == {"annoy"}
    view = view_of(open_build(folder, 1, SPACE))
    for k in (1, 10, 100, 1000):
        assert search(view, np.asarray(clustered()[:1]), k).source == "annoy"
    assert search(view, np.asarray(clustered()[:1]), 10, asked=Asked(77)).search_k == 77


def test_a_recall_is_answered_by_what_was_measured_to_reach_it_else_exactly() -> None:
    vectors = clustered()
    query, dead = np.asarray(vectors[:1]), np.zeros(COUNT, np.bool_)
    scan = Noting()
    planned = PlannedCandidates(
        [(PlanEntry(k=10, batch=False, source="scan", recall_low=0.93, milliseconds=1), scan)], ExactCandidates(vectors)
    )
    planned.propose(query, 10, Absent(dead), Asked(recall=0.93))
    assert len(scan.asked) == 1
    assert planned.propose(query, 10, Absent(dead), Asked(recall=0.94)).source == "exact"
    assert planned.effort(1, 10, Absent(dead), Asked(recall=0.94)) == COUNT
    assert len(scan.asked) == 1


def test_a_search_is_told_what_it_followed_and_a_recall_takes_the_cheapest_that_reaches_it(build: Build) -> None:
    folder, report = build(force_engine=True)
    view = view_of(open_build(folder, 1, SPACE))
    kept = {each.index for each in report.plan}
    for count, k, hits in ((1, 7, 10), (40, 10, 10), (1, 100, 100)):
        queries, batch = np.asarray(clustered()[:count]), count >= 8
        (planned,) = (each for each in report.plan if (each.k, each.batch) == (hits, batch))
        assert search(view, queries, k).entry == planned
        ways = [each for each in report.measured if (each.k, each.batch) == (hits, batch) and each.milliseconds > 0]
        for recall in (0.3, 0.8, 0.9):
            found = search(view, queries, k, asked=Asked(recall=recall))
            reaching = [each for each in ways if each.recall_low >= recall and (each.source == "exact" or each.index in kept)]
            assert found.entry == min(reaching, key=lambda each: each.milliseconds)
            assert found.source == found.entry.source
        assert search(view, queries, k, asked=Asked(recall=0.99999)).exact
        assert search(view, queries, k, asked=Asked(search_k=77)).entry is None
        assert search(view, queries, k, exact=True).entry is None


def test_nothing_is_tried_that_would_take_too_long_but_the_first_of_an_engine(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "MOST_SECONDS", 0.0)
    _, report = build(engine="hnsw", force_engine=True)
    assert {each.index for each in report.measured if each.source == "hnsw"} == {Index("hnsw", 32, links=12)}


def test_an_engine_that_costs_far_more_than_a_scan_is_tried_once(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, "scan")
    _, report = build(engine="hnsw")
    assert len({each.index for each in report.measured if each.source == "hnsw"}) == 1
    assert {each.source for each in report.plan} == {"scan"}
    assert report.engine == "hnsw"
