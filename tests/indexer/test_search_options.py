"""What a search may want beside the nearest items, held against brute force over a dictionary."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lookalike_indexer import grouping
from lookalike_indexer.admission import Offer
from lookalike_indexer.answer import Answer, Options
from lookalike_indexer.builds.job import Job
from lookalike_indexer.builds.stages import run_build
from lookalike_indexer.collection import ITEMS_FILE, OpenCollection, create_folder
from lookalike_indexer.expansion import Expansion
from lookalike_indexer.filters import OneOf
from lookalike_indexer.queries import Combine, Pictures
from lookalike_indexer.records import Collection, Dba, Engine, Space
from lookalike_indexer.served_build import open_build
from lookalike_indexer.store import Columns, NewItem
from lookalike_retrieval import normalise
from lookalike_runtime.errors import InvalidArgument, NotFound

DIM = 4
SPACE = Space(fingerprint="ls1:" + "a" * 64, model="shoes", version=1, profile="plain", dim=DIM)
Vector = NDArray[np.float32]
LIGHT = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


class Kept:
    """A collection of a build, of what is newer, replaced and deleted since, and the same as dictionaries."""

    def __init__(self, folder: Path, engine: Engine, dba: Dba, *, built: int, fresh: int) -> None:
        rng = np.random.default_rng(5)
        create_folder(folder)
        record = Collection(uid="u", name="c", space=SPACE, engine=engine, dba=dba, recall_target=0.95, create_time=0)
        self.collection = OpenCollection(folder, record)
        self.raw: dict[str, Vector] = {}
        self.labels: dict[str, str] = {}
        self.put(rng, [f"i{n:02d}" for n in rng.permutation(built)])
        if built:
            target = self.collection.build_folder(1)
            target.mkdir()
            job = Job(
                database=folder / ITEMS_FILE, folder=target, space=SPACE, engine=engine, dba=dba,
                trees=5, reduced_dim=2, force_engine=True, recall_target=0.95, exact_below=0,
            )  # fmt: skip
            run_build(job, lambda _: None)
            self.collection.serve(open_build(target, 1, SPACE), lambda: None)
        self.put(rng, [f"i{n:02d}" for n in rng.permutation(built + fresh)[:fresh]])
        for each in rng.choice(sorted(self.raw), 8, replace=False).tolist():
            self.collection.delete([each])
            del self.raw[each]

    def put(self, rng: np.random.Generator, ids: Sequence[str]) -> None:
        vectors = rng.standard_normal((len(ids), DIM)).astype(np.float32)
        labels = ["", "x", "x", "x", "x", "y", "z"]
        for each, vector in zip(ids, vectors, strict=True):
            self.raw[each] = vector
            self.labels[each] = labels[rng.integers(len(labels))]
        self.collection.upsert([Offer(NewItem(each, self.labels[each])) for each in ids], vectors) if ids else None

    @property
    def served(self) -> dict[str, Vector]:
        view = self.collection.view
        built = {} if view.build is None else {view.build.ids[row]: view.build.vectors[row] for row in np.flatnonzero(~view.dead)}
        return built | {view.fresh.ids[slot]: view.fresh.units[slot] for slot in view.fresh.live}


CASES: dict[str, dict[str, Any]] = {
    "fresh": {"engine": "exact", "dba": Dba(), "built": 0, "fresh": 60},
    "built": {"engine": "exact", "dba": Dba(), "built": 50, "fresh": 20},
    "augmented": {"engine": "exact", "dba": Dba(k=2), "built": 50, "fresh": 20},
}


@pytest.fixture(scope="module", params=CASES)
def kept(request: pytest.FixtureRequest) -> Iterator[Kept]:
    with tempfile.TemporaryDirectory() as folder:
        kept = Kept(Path(folder) / "c", **CASES[request.param])
        assert set(kept.served) == set(kept.raw)
        yield kept
        kept.collection.close()


def unit(vector: Any) -> NDArray[np.float64]:
    wide = np.asarray(vector, np.float64)
    return np.asarray(wide / np.linalg.norm(wide))


def nearest(kept: Kept, pictures: Sequence[NDArray[np.float64]], without: set[str], label: str | None) -> list[tuple[str, float]]:
    """All items in order, by a plain loop."""
    scored = []
    for each, vector in kept.served.items():
        if each not in without and label in (None, kept.labels[each]):
            scored.append((each, max(float(picture @ vector.astype(np.float64)) for picture in pictures)))
    return sorted(scored, key=lambda hit: (-hit[1], hit[0]))


def expanded(kept: Kept, picture: NDArray[np.float64], without: set[str], label: str | None, how: Expansion) -> NDArray[np.float64]:
    total = picture.copy()
    for each, score in nearest(kept, [picture], without, label)[: how.k]:
        total += (max(score, 0) ** how.alpha if how.alpha else 1) * kept.served[each].astype(np.float64)
    return picture if np.linalg.norm(total) < 1e-6 else unit(total)


def grouped(kept: Kept, hits: list[tuple[str, float]]) -> list[tuple[str, float]]:
    seen: set[str] = set()
    best = []
    for each, score in hits:
        group = kept.labels[each] or f"alone {each}"
        if group not in seen:
            seen.add(group)
            best.append((each, score))
    return best


def brute(kept: Kept, pictures: Pictures, k: int, options: Options, label: str | None) -> list[list[tuple[str, float]]]:
    raw = [kept.raw[each] for each in pictures.item_ids] if pictures.vectors is None else list(pictures.vectors)
    answers, start = [], 0
    for size in pictures.sizes or [1] * len(raw):
        units = [unit(each) for each in raw[start : start + size]]
        without = set(pictures.item_ids[start : start + size])
        start += size
        queries = [unit(np.mean(units, axis=0))] if pictures.combine == "mean" else units
        if options.expansion:
            queries = [expanded(kept, each, without, label, options.expansion) for each in queries]
        hits = nearest(kept, queries, without, label)
        if options.min_score is not None:
            hits = [hit for hit in hits if np.float32(hit[1]) >= options.min_score]
        answers.append((grouped(kept, hits) if options.group_by_label else hits)[:k])
    return answers


def agree(answer: Answer, expected: list[list[tuple[str, float]]]) -> None:
    for hits, right in zip(answer.found.hits, expected, strict=True):
        assert hits.ids == [each for each, _ in right]
        np.testing.assert_allclose(hits.scores, [score for _, score in right], atol=1e-6)
    assert set(answer.items) == {each for hits in answer.found.hits for each in hits.ids}


SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=4)
OPTIONS = st.builds(
    Options,
    min_score=st.none() | st.sampled_from([-0.9, 0.1, 0.55, 0.97]),
    expansion=st.none() | st.builds(Expansion, st.integers(1, 20), st.sampled_from([0.0, 1.0, 3.0])),
    group_by_label=st.booleans(),
)


@LIGHT
@given(
    data=st.data(), by_items=st.booleans(), sizes=SIZES, sized=st.booleans(), combine=st.sampled_from(["mean", "best"]),
    k=st.integers(1, 70), options=OPTIONS, label=st.sampled_from([None, None, "x", "y"]), seed=st.integers(0, 999),
)  # fmt: skip
def test_every_option_and_all_together_are_a_plain_loop(
    kept: Kept, data: Any, by_items: bool, sizes: list[int], sized: bool, combine: Combine, k: int, options: Options,
    label: str | None, seed: int,
) -> None:  # fmt: skip
    count = sum(sizes)
    groups = tuple(sizes) if sized else ()
    rng = np.random.default_rng(seed)
    if by_items:
        ids = tuple(rng.choice(sorted(kept.raw), count).tolist())
        pictures = Pictures(None, ids, groups, combine)
    else:
        pictures = Pictures(rng.standard_normal((count, DIM)).astype(np.float32), (), groups, combine)
    item_filter = None if label is None else OneOf(("label",), (label,))
    answer = kept.collection.search(pictures, k, Columns(), options=options, item_filter=item_filter)
    agree(answer, brute(kept, pictures, k, options, label))
    assert answer.found.exact


@pytest.mark.parametrize("k", [1, 3, 60])
def test_labels_are_found_however_far_they_are(kept: Kept, monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    """With few hits a look, each further look is needed, and at last every vector is compared."""
    query = Pictures(np.array([[1, 0.2, 0.1, 0]], np.float32))
    options = Options(group_by_label=True)
    expected = brute(kept, query, k, options, None)
    for most in (k, 8, 70):
        monkeypatch.setattr(grouping, "_FACTOR", 2)
        monkeypatch.setattr(grouping, "_MOST_HITS", most)
        agree(kept.collection.search(query, k, Columns(), options=options), expected)


def test_grouping_many_queries_compares_them_in_parts(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = Pictures(np.random.default_rng(3).standard_normal((9, DIM)).astype(np.float32), (), (2, 3, 4), "best")
    options = Options(group_by_label=True)
    monkeypatch.setattr(grouping, "_MOST_HITS", 0)
    monkeypatch.setattr(grouping, "_MOST_SCORES", 70)
    monkeypatch.setattr(grouping, "_ROWS_AT_ONCE", 16)
    agree(kept.collection.search(pictures, 9, Columns(), options=options), brute(kept, pictures, 9, options, None))


@pytest.mark.parametrize("most", [0, 1_000])
def test_the_first_by_id_of_many_equals_stands_for_their_label(
    collection: OpenCollection, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    ids = [f"{n:03d}" for n in rng.permutation(300)]
    labels = {each: "xyz"[rng.integers(3)] for each in ids}
    collection.upsert([Offer(NewItem(each, labels[each])) for each in ids], np.ones((300, 8), np.float32))
    monkeypatch.setattr(grouping, "_MOST_HITS", most)
    answer = collection.search(np.eye(8, dtype=np.float32)[:1], 2, Columns(), options=Options(group_by_label=True))
    assert answer.found.hits[0].ids == sorted(min(each for each in ids if labels[each] == label) for label in "xyz")[:2]


def test_an_item_that_is_not_there_is_named(kept: Kept) -> None:
    there = next(iter(kept.raw))
    with pytest.raises(NotFound, match="'nobody'") as error:
        kept.collection.search(Pictures(None, (there, "nobody", "no one")), 3, Columns())
    assert (error.value.reason, error.value.metadata) == ("ITEM_NOT_FOUND", {"id": "nobody"})


def test_pictures_that_cancel_each_other_out_have_no_mean_but_a_best(kept: Kept) -> None:
    opposite = np.array([[1, 1, 0, 0], [0, 1, 0, 0], [0, -2, 0, 0]], np.float32)
    with pytest.raises(InvalidArgument, match="query 1: the mean of its 2 pictures vanishes") as error:
        kept.collection.search(Pictures(opposite, (), (1, 2)), 3, Columns())
    assert error.value.reason == "ZERO_VECTOR"
    best = Pictures(opposite, (), (1, 2), "best")
    agree(kept.collection.search(best, 3, Columns()), brute(kept, best, 3, Options(), None))


def test_the_least_score_is_compared_with_the_score_that_is_answered(kept: Kept) -> None:
    query = Pictures(np.array([[1, 0.3, 0.1, 0]], np.float32))
    (hits,) = kept.collection.search(query, 10, Columns()).found.hits
    for score in set(hits.scores):
        (worthy,) = kept.collection.search(query, 10, Columns(), options=Options(min_score=score)).found.hits
        assert worthy.ids == [each for each, its in zip(hits.ids, hits.scores, strict=True) if its >= score]
        above = float(np.nextafter(np.float32(score), np.float32(2)))
        (worthy,) = kept.collection.search(query, 10, Columns(), options=Options(min_score=above)).found.hits
        assert worthy.ids == [each for each, its in zip(hits.ids, hits.scores, strict=True) if its > score]


@pytest.fixture
def annoy(tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(tmp_path / "c", "annoy", Dba(), built=60, fresh=10)
    yield kept
    kept.collection.close()


def test_an_engine_leaves_out_the_items_that_ask_and_still_gives_all_hits(annoy: Kept) -> None:
    ids = tuple(sorted(annoy.raw))[:32]
    for combine in ("mean", "best"):
        for k in (1, 10, 20):
            answer = annoy.collection.search(Pictures(None, ids, (32,), combine), k, Columns())
            (hits,) = answer.found.hits
            assert answer.found.source == "annoy"
            assert len(hits.ids) == k
            assert not set(hits.ids) & set(ids)


def test_groups_by_an_engine_are_whole_and_their_source_is_told(annoy: Kept) -> None:
    query = Pictures(np.array([[1, 0.2, 0.1, 0]], np.float32))
    options = Options(group_by_label=True)
    every = brute(annoy, query, 100, options, None)[0]
    answer = annoy.collection.search(query, 100, Columns(), options=options)
    assert len(answer.found.hits[0].ids) == len(every)
    answer = annoy.collection.search(query, 2, Columns(), options=options)
    assert answer.found.source == "annoy"
    assert len(answer.found.hits[0].ids) == 2


@pytest.mark.parametrize("options", [Options(), Options(group_by_label=True), Options(expansion=Expansion(3))])
@pytest.mark.parametrize("by_items", [True, False])
def test_a_search_is_of_one_revision_whoever_writes_meanwhile(
    collection: OpenCollection, monkeypatch: pytest.MonkeyPatch, options: Options, by_items: bool
) -> None:
    """Every read of the store lies between two writes that change what is read."""
    written = 0

    def write() -> None:
        nonlocal written
        written += 1
        offers = [Offer(NewItem(each, f"{each} {written}")) for each in "abc"]
        collection.upsert(offers, np.full((3, 8), written, np.float32) + np.eye(8, dtype=np.float32)[:3])

    write()
    for name in ("get", "labels", "group_count", "all_labels"):
        read = getattr(collection.store, name)

        def between_writes(*arguments: Any, read: Callable[..., Any] = read) -> Any:
            # The last look keeps writers out, as a lock that is held shows.
            if collection._lock.locked():
                return read(*arguments)
            write()
            answer = read(*arguments)
            write()
            return answer

        monkeypatch.setattr(collection.store, name, between_writes)
    pictures = Pictures(None, ("a",)) if by_items else Pictures(np.ones((1, 8), np.float32))
    answer = collection.search(pictures, 10, Columns(), options=options)
    assert sorted(answer.found.hits[0].ids) == (["b", "c"] if by_items else ["a", "b", "c"])
    assert {item.label.split()[1] for item in answer.items.values()} == {str(answer.view.revision)}
    assert written > 1
    if by_items and options.expansion is None:
        then = np.full((1, 8), answer.view.revision, np.float32) + np.eye(8, dtype=np.float32)[:1]
        np.testing.assert_allclose(answer.queries.units, normalise(then))


@pytest.mark.parametrize("read_late", ["group_count", "all_labels"])
def test_labels_that_change_between_view_and_store_are_read_again(
    collection: OpenCollection, monkeypatch: pytest.MonkeyPatch, read_late: str
) -> None:
    near, far = np.eye(8, dtype=np.float32)[:1], np.eye(8, dtype=np.float32)[1:2]
    collection.upsert([Offer(NewItem(f"a{n}", "x")) for n in range(9)], np.repeat(near, 9, axis=0))
    collection.upsert([Offer(NewItem("b", "y"))], far)
    if read_late == "all_labels":
        monkeypatch.setattr(grouping, "_MOST_HITS", 0)
    read = getattr(collection.store, read_late)
    calls = 0

    def relabelled(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            collection.upsert([Offer(NewItem("b", "x"))], far)
        return read(*arguments)

    monkeypatch.setattr(collection.store, read_late, relabelled)
    answer = collection.search(near, 2, Columns(), options=Options(group_by_label=True))
    assert (answer.found.hits[0].ids, answer.view.revision) == (["a0"], 3)


def test_as_many_items_as_may_ask_take_no_place_of_a_hit(collection: OpenCollection, rng: np.random.Generator) -> None:
    vectors = rng.standard_normal((60, 8)).astype(np.float32)
    vectors[:32, 0] += 50
    ids = [f"i{n:02d}" for n in range(60)]
    collection.upsert([Offer(NewItem(each)) for each in ids], vectors)
    for k in (1, 10, 28, 30):
        (hits,) = collection.search(Pictures(None, tuple(ids[:32]), (32,)), k, Columns()).found.hits
        assert len(hits.ids) == min(k, 28)
        assert not set(hits.ids) & set(ids[:32])


def test_an_item_asks_with_the_vector_that_it_has_at_the_revision_answered(
    collection: OpenCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    axes = np.eye(8, dtype=np.float32)
    collection.upsert([Offer(NewItem(each)) for each in "abc"], axes[:3])
    read = collection.store.get
    calls = 0

    def replaced(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            collection.upsert([Offer(NewItem("a"))], axes[2:3])
        return read(*arguments, **named)

    monkeypatch.setattr(collection.store, "get", replaced)
    answer = collection.search(Pictures(None, ("a",)), 1, Columns())
    assert (answer.found.hits[0].ids, answer.view.revision) == (["c"], 2)


def test_many_candidates_of_several_pictures_are_ranked_as_by_a_plain_loop(kept: Kept) -> None:
    pictures = Pictures(np.random.default_rng(3).standard_normal((9, DIM)).astype(np.float32), (), (2, 3, 4), "best")
    agree(kept.collection.search(pictures, 30, Columns()), brute(kept, pictures, 30, Options(), None))
