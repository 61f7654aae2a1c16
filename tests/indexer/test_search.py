from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from numpy.typing import NDArray

from lookalike_indexer.admission import Offer
from lookalike_indexer.builds import choice, contest, grid, measure
from lookalike_indexer.builds.contest import Contest
from lookalike_indexer.builds.job import Job
from lookalike_indexer.builds.manifest import read_manifest
from lookalike_indexer.builds.stages import run_build
from lookalike_indexer.collection import ITEMS_FILE, OpenCollection, create_folder
from lookalike_indexer.filters import Not, OneOf
from lookalike_indexer.queries import unit_queries
from lookalike_indexer.records import Collection, Dba, Engine, Space
from lookalike_indexer.served_build import open_build
from lookalike_indexer.store import Columns, NewItem
from lookalike_runtime.errors import InvalidArgument

DIM = 4
SPACE = Space(fingerprint="ls1:" + "a" * 64, model="shoes", version=1, profile="plain", dim=DIM)
IDS = st.sampled_from([f"i{n:02d}" for n in range(40)])
# Few values make many equal vectors, and so many ties.
LABELS = st.sampled_from("xyz")
VECTORS = st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=DIM, max_size=DIM).filter(any)


class CollectionAgainstDictionary(RuleBasedStateMachine):
    """Random writes, deletions, builds, activations and restarts, each search compared with a plain loop over a dictionary."""

    engine: Engine = "exact"
    force_engine = True
    recall_target = 0.95
    # What answered in all runs.
    sources: ClassVar[set[str]] = set()

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        create_folder(self.folder / "c")
        self.model: dict[str, NDArray[np.float32]] = {}
        self.labels: dict[str, str] = {}
        self.active: int | None = None
        self.built = 0
        self.open()

    def open(self) -> None:
        record = Collection(
            uid="u", name="c", space=SPACE, engine=self.engine, dba=Dba(),
            recall_target=self.recall_target, create_time=0, active_build=self.active,
        )  # fmt: skip
        self.collection = OpenCollection(self.folder / "c", record)
        assert not self.collection.build_damaged

    def teardown(self) -> None:
        if hasattr(self, "collection"):
            self.collection.close()
            shutil.rmtree(self.folder)

    @rule(items=st.dictionaries(IDS, VECTORS, min_size=1, max_size=12), label=LABELS)
    def upsert(self, items: dict[str, list[float]], label: str) -> None:
        vectors = np.array(list(items.values()), np.float32)
        written = self.collection.upsert([Offer(NewItem(each, label)) for each in items], vectors)
        self.labels |= dict.fromkeys(items, label)
        assert (written.kept, written.refusals) == (len(items), [])
        self.model |= dict(zip(items, vectors, strict=True))

    @rule(ids=st.lists(IDS, max_size=8))
    def delete(self, ids: list[str]) -> None:
        _, deleted = self.collection.delete(ids)
        assert deleted == len(set(ids) & set(self.model))
        for each in ids:
            self.model.pop(each, None)

    @rule(label=LABELS)
    def delete_matching(self, label: str) -> None:
        _, deleted = self.collection.delete_matching(OneOf(("label",), (label,)))
        gone = [each for each in self.model if self.labels[each] == label]
        assert deleted == len(gone)
        for each in gone:
            del self.model[each]

    @precondition(lambda self: self.model)
    @rule()
    def build(self) -> None:
        self.built += 1
        folder = self.collection.build_folder(self.built)
        folder.mkdir()
        job = Job(
            database=self.collection.folder / ITEMS_FILE, folder=folder, space=SPACE, engine=self.engine, dba=Dba(),
            trees=5, reduced_dim=2, force_engine=self.force_engine, recall_target=self.recall_target, exact_below=0,
        )  # fmt: skip
        run_build(job, lambda _: None)
        self.activate(self.built)

    @precondition(lambda self: len(self.model) > DIM)
    @rule(query=VECTORS)
    def build_and_search(self, query: list[float]) -> None:
        self.build()
        self.search(query, 1, exact=False)

    @precondition(lambda self: self.built)
    @rule(data=st.data())
    def activate_an_earlier_one(self, data: Any) -> None:
        self.activate(data.draw(st.integers(1, self.built)))

    def activate(self, number: int) -> None:
        self.collection.serve(open_build(self.collection.build_folder(number), number, SPACE), lambda: None)
        self.active = number

    @rule()
    def restart(self) -> None:
        self.collection.close()
        self.open()

    @rule(query=VECTORS, k=st.integers(1, 50), exact=st.booleans())
    def search(self, query: list[float], k: int, exact: bool) -> None:
        queries = unit_queries(np.array([query], np.float32))
        answer = self.collection.search(queries, k, Columns(), exact=exact)
        (hits,) = answer.found.hits
        scores = {each: float(np.float32(vector @ queries[0] / np.linalg.norm(vector))) for each, vector in self.model.items()}
        assert len(hits.ids) == len(set(hits.ids)) == min(k, len(self.model))
        np.testing.assert_allclose(hits.scores, [scores[each] for each in hits.ids], atol=1e-6)
        build = answer.view.build
        plan = read_manifest(self.collection.build_folder(build.number), SPACE).report.plan if build and not exact else ()
        planned = next((entry.source for entry in plan if entry.k >= k and not entry.batch), "exact")
        assert (answer.found.source, answer.found.exact) == (planned, planned == "exact")
        self.sources.add(planned)
        if answer.found.exact:
            expected = sorted(self.model, key=lambda each: (-round(scores[each], 5), each))[:k]
            assert hits.ids == expected
        assert set(answer.items) == set(hits.ids)

    @rule(query=VECTORS, k=st.integers(1, 50), label=LABELS, negated=st.booleans())
    def search_filtered(self, query: list[float], k: int, label: str, negated: bool) -> None:
        queries = unit_queries(np.array([query], np.float32))
        alike = OneOf(("label",), (label,))
        answer = self.collection.search(queries, k, Columns(), item_filter=Not(alike) if negated else alike)
        (hits,) = answer.found.hits
        allowed = {each: vector for each, vector in self.model.items() if (self.labels[each] == label) != negated}
        scores = {each: float(np.float32(vector @ queries[0] / np.linalg.norm(vector))) for each, vector in allowed.items()}
        assert len(hits.ids) == min(k, len(allowed))
        np.testing.assert_allclose(hits.scores, [scores[each] for each in hits.ids], atol=1e-6)
        if answer.found.exact:
            assert hits.ids == sorted(allowed, key=lambda each: (-round(scores[each], 5), each))[:k]

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "collection"):
            assert self.collection.view.item_count == len(self.model)
            assert self.collection.store.counts(0)[1] == len(self.model)


class AnnoyAgainstDictionary(CollectionAgainstDictionary):
    engine = "annoy"


class HnswAgainstDictionary(CollectionAgainstDictionary):
    engine = "hnsw"


class ScanAgainstDictionary(CollectionAgainstDictionary):
    """As if one source were always the quickest, and any recall enough: what it misses would be seen in the hits."""

    preferred = "scan"
    engine = "annoy"
    force_engine = False
    recall_target = 0.01

    @initialize()
    def start(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(choice, "SCAN_DIMS", (2,))
        self.patch.setattr(grid, "SCAN_DIMS", (2,))
        self.patch.setattr(grid, "IVF_DIMS", (2,))
        self.patch.setattr(measure, "lower_bound", lambda shares: float(shares.mean()))
        self.patch.setattr(Contest, "_times", lambda _, ways, runs: [1.0 if each.source == self.preferred else 2.0 for each in ways])  # noqa: ARG005
        super().start()

    def teardown(self) -> None:
        super().teardown()
        self.patch.undo()


class IvfAgainstDictionary(ScanAgainstDictionary):
    preferred = "ivf"


LIGHT = settings(max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.mark.parametrize(
    ("machine", "source"),
    [
        (CollectionAgainstDictionary, "exact"),
        (AnnoyAgainstDictionary, "annoy"),
        (HnswAgainstDictionary, "hnsw"),
        (ScanAgainstDictionary, "scan"),
        (IvfAgainstDictionary, "ivf"),
    ],
)
def test_searches_are_a_plain_loop_over_a_dictionary_whatever_came_before(
    machine: type[CollectionAgainstDictionary], source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Which is the cheapest does not matter here.
    for runs in ("_TIMED_SINGLES", "_TIMED_BATCHES"):
        monkeypatch.setattr(measure, runs, 1)
    monkeypatch.setattr(contest, "_FINAL_RUNS", {False: 1, True: 1})
    machine.sources.clear()
    run_state_machine_as_test(machine, settings=LIGHT)
    assert source in machine.sources


def test_a_query_without_direction_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidArgument, match="query 1") as error:
        unit_queries(np.array([[1, 0], [0, 0]], np.float32))
    assert error.value.reason == "ZERO_VECTOR"
    with pytest.raises(InvalidArgument, match="query 0") as error:
        unit_queries(np.array([[np.inf, 0]], np.float32))
    assert error.value.reason == "NOT_FINITE"


def test_many_equals_are_ordered_by_id_at_the_last_place_too(collection: OpenCollection, rng: np.random.Generator) -> None:
    ids = [f"{n:03d}" for n in rng.permutation(100)]
    collection.upsert([Offer(NewItem(each)) for each in ids], np.ones((100, 8), np.float32))
    answer = collection.search(unit_queries(np.ones((1, 8), np.float32)), 7, Columns())
    assert answer.found.hits[0].ids == sorted(ids)[:7]


def test_a_view_stays_as_it_was_whatever_is_written_after_it(collection: OpenCollection) -> None:
    collection.upsert([Offer(NewItem("a")), Offer(NewItem("b"))], np.eye(8, dtype=np.float32)[:2])
    view = collection.view
    before = (view.revision, [view.fresh.ids[slot] for slot in view.fresh.live], view.fresh.units.copy())
    collection.delete(["a"])
    for number in range(300):
        collection.upsert([Offer(NewItem(str(number)))], np.ones((1, 8), np.float32))
    assert (view.revision, [view.fresh.ids[slot] for slot in view.fresh.live]) == before[:2]
    np.testing.assert_array_equal(view.fresh.units, before[2])
    assert collection.view.item_count == 301
