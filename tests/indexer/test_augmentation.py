"""Fresh items are augmented as the build augmented its own: held against plain loops and against a new build."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from lookalike_indexer import augmentation
from lookalike_indexer.augmenter import Augmenter
from lookalike_indexer.build_log import BuildLog
from lookalike_indexer.builds.manifest import DamagedBuild
from lookalike_indexer.catalog import Catalog
from lookalike_indexer.collection import OpenCollection, create_folder
from lookalike_indexer.collections import Collections
from lookalike_indexer.records import Collection, Dba, Space, now
from lookalike_indexer.search import Hits, search
from lookalike_indexer.served_build import open_build
from lookalike_indexer.view import View
from lookalike_retrieval import augment, neighbour_weights, normalise
from tests.indexer.made_builds import Vectors, build, clustered, put

SPECS = [Dba(k=3, weights="equal"), Dba(k=2), Dba(k=5, weights="rank"), Dba(k=3, weights="power", power=2.5)]


def served(view: View) -> dict[str, Vectors]:
    """The vector that is served of each item."""
    found = {each: view.fresh.units[slot] for slot, each in zip(view.fresh.live, [view.fresh.ids[s] for s in view.fresh.live], strict=True)}
    if view.build is not None:
        found |= {each: view.build.vectors[row] for each, row in view.build.rows.items() if not view.dead[row]}
    return found


def by_hand(own: str, raw: dict[str, Vectors], dba: Dba) -> tuple[Vectors, list[str]]:
    """The augmented vector of an item among all, by a plain loop, and what is in it."""
    others = sorted((each for each in raw if each != own), key=lambda each: (-round(float(raw[each] @ raw[own]), 6), each))[: dba.k]
    weights = neighbour_weights(np.array([[raw[each] @ raw[own] for each in others]], np.float32), dba.weights, dba.power)[0]
    total = raw[own] + sum(weight * raw[each] for weight, each in zip(weights, others, strict=True))
    return total / np.linalg.norm(total), others


def augment_all(collection: OpenCollection, batch: int = 7) -> int:
    total = 0
    while (took := collection.augment_waiting(batch))[0]:
        total += took[1]
    return total


@pytest.mark.parametrize("dba", SPECS, ids=lambda dba: dba.weights)
def test_a_fresh_item_becomes_the_weighted_mean_of_itself_and_its_nearest_others(
    collection: OpenCollection, rng: np.random.Generator, dba: Dba
) -> None:
    vectors = rng.standard_normal((60, 8)).astype(np.float32)
    ids = [f"{n:02d}" for n in rng.permutation(60)]
    put(collection, ids[:40], vectors[:40])
    build(collection, 1, dba)
    put(collection, ids[40:], vectors[40:])
    put(collection, ids[:3], vectors[37:40])
    collection.delete([ids[4], ids[41]])
    raw = dict(zip(ids, normalise(vectors), strict=True)) | dict(zip(ids[:3], normalise(vectors[37:40]), strict=True))
    del raw[ids[4]], raw[ids[41]]
    before = served(collection.view)
    np.testing.assert_allclose(before[ids[45]], raw[ids[45]], atol=1e-6)
    assert len(collection.view.fresh.waiting) == 22
    augment_all(collection)
    after, view = served(collection.view), collection.view
    fresh = {*ids[:3], ids[40], *ids[42:]}
    # Those of the build, too, to which a fresh item is nearer than the last of their neighbours was.
    old = dict(zip(ids[:40], normalise(vectors[:40]), strict=True))
    last = {each: old[by_hand(each, old, dba)[1][-1]] @ old[each] for each in set(raw) - fresh}
    touched = {each for each, least in last.items() if any(raw[other] @ raw[each] > least + 1e-6 for other in fresh)}
    assert touched
    for each in fresh | touched:
        expected, others = by_hand(each, raw, dba)
        np.testing.assert_allclose(after[each], expected, atol=1e-5)
        averaged = view.fresh.averaged[next(slot for slot in view.fresh.live if view.fresh.ids[slot] == each)]
        assert averaged is not None
        assert averaged.ids == others
        np.testing.assert_allclose(averaged.similarities, [raw[other] @ raw[each] for other in others], atol=1e-6)
    for each in set(raw) - fresh - touched:
        np.testing.assert_array_equal(after[each], before[each])
    assert (view.revision, view.item_count, view.fresh_item_count) == (collection.store.revision(), 58, 22)
    hits = search(view, normalise(vectors[:1]), 58).hits[0]
    assert {each for each, is_fresh in zip(hits.ids, hits.fresh, strict=True) if is_fresh} == fresh
    assert all(hits.augmented)
    assert augment_all(collection) == 0


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_live_answers_are_nearly_those_of_a_new_build(tmp_path: Path, rounds: int) -> None:
    count, dim, dba = 1500, 64, Dba(k=3, weights="equal", rounds=rounds)
    record = Collection(
        uid="u", name="c", space=Space(fingerprint="ls1:" + "a" * 64, model="m", version=1, profile="p", dim=dim),
        engine="exact", dba=dba, recall_target=0.95, create_time=now(),
    )  # fmt: skip
    create_folder(tmp_path / "c")
    collection = OpenCollection(tmp_path / "c", record)
    vectors, ids = clustered(count, dim), [f"{n:04d}" for n in range(count)]
    late = np.random.default_rng(5).permutation(count)[: count // 10]
    early = np.setdiff1d(np.arange(count), late)
    put(collection, [ids[place] for place in early], vectors[early])
    build(collection, 1, dba)
    put(collection, [ids[place] for place in late], vectors[late])
    queries = normalise(clustered(count, dim, 9)[:100] * 0.3 + vectors[:100])
    raw = search(collection.view, queries, 10).hits
    augment_all(collection, 64)
    live = search(collection.view, queries, 10).hits
    assert all(all(each.augmented) for each in live)
    build(collection, 2, dba)
    new = search(collection.view, queries, 10).hits

    def overlap(hits: list[Hits]) -> float:
        return float(np.mean([len(set(a.ids) & set(b.ids)) / 10 for a, b in zip(hits, new, strict=True)]))

    # With several rounds, what the build holds stays as it is.
    assert overlap(live) >= (0.95 if rounds == 1 else 0.88)
    assert overlap(live) > overlap(raw) + 0.02
    collection.close()


def test_further_rounds_go_by_the_vectors_that_are_served(collection: OpenCollection, rng: np.random.Generator) -> None:
    dba = Dba(k=2, weights="equal", rounds=2)
    vectors = rng.standard_normal((21, 8)).astype(np.float32)
    ids = [f"{n:02d}" for n in range(21)]
    put(collection, ids[:20], vectors[:20])
    build(collection, 1, dba)
    put(collection, ids[20:], vectors[20:])
    first, _ = by_hand("20", dict(zip(ids, normalise(vectors), strict=True)), dba)
    second, others = by_hand("20", {**served(collection.view), "20": first}, dba)
    assert augment_all(collection) == 1
    np.testing.assert_allclose(served(collection.view)["20"], second, atol=1e-5)
    averaged = collection.view.fresh.averaged[collection.view.fresh.live[0]]
    assert averaged is not None
    assert averaged.ids == others


def test_an_earlier_view_stays_raw_and_a_later_write_wins(collection: OpenCollection, rng: np.random.Generator) -> None:
    vectors = rng.standard_normal((30, 8)).astype(np.float32)
    put(collection, [f"{n:02d}" for n in range(20)], vectors[:20])
    build(collection, 1, Dba(k=2))
    put(collection, ["a", "b", "c"], vectors[20:23])
    earlier = collection.view
    units, raw = earlier.fresh.units.copy(), served(earlier)
    augment_all(collection)
    put(collection, ["a"], vectors[25:26])
    collection.delete(["b"])
    for number in range(300):
        put(collection, [f"x{number}"], vectors[26:27])
    np.testing.assert_array_equal(earlier.fresh.units, units)
    assert set(served(earlier)) == set(raw)
    view = collection.view
    np.testing.assert_allclose(served(view)["a"], normalise(vectors[25:26])[0], atol=1e-6)
    assert "b" not in served(view)
    hits = search(view, normalise(vectors[22:23]), 400).hits[0]
    flags = dict(zip(hits.ids, zip(hits.fresh, hits.augmented, strict=True), strict=True))
    assert (flags["a"], flags["c"], flags["05"]) == ((True, False), (True, True), (False, True))
    # Packing has moved the raw row of c with it.
    raw_row = view.fresh.units[view.fresh.raw_slots[next(s for s in view.fresh.live if view.fresh.ids[s] == "c")]]
    np.testing.assert_allclose(raw_row, normalise(vectors[22:23])[0], atol=1e-6)


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_written_during_augmentation_is_not_overwritten_and_gives_nothing_after_its_end(
    collection: OpenCollection, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    vectors = rng.standard_normal((30, 8)).astype(np.float32)
    vectors[21:24] = vectors[20] + 0.01 * rng.standard_normal((3, 8))
    vectors[1] = vectors[25] + 0.001
    put(collection, [f"{n:02d}" for n in range(20)], vectors[:20])
    build(collection, 1, Dba(k=1))
    put(collection, ["a", "b", "c", "d", "e", "f"], vectors[[20, 21, 5, 24, 25, 26]])
    genuine = augmentation.augment_waiting

    def meanwhile(view: View, most: int) -> augmentation.AugmentedItems | None:
        augmented = genuine(view, most)
        monkeypatch.undo()
        put(collection, ["c"], vectors[27:28])
        collection.delete(["b", "d", "01"])
        for number in range(600 if packed else 1):
            put(collection, ["other"], vectors[28:29] + number)
        return augmented

    monkeypatch.setattr(augmentation, "augment_waiting", meanwhile)
    # b is gone and with it a, whose neighbour it was, c is another, d is gone, and so is what was in e; f stands.
    assert collection.augment_waiting(100)[0] == 6
    view = collection.view
    assert {view.fresh.ids[slot] for slot in view.fresh.waiting} == {"a", "c", "e", "other"}
    np.testing.assert_allclose(served(view)["c"], normalise(vectors[27:28])[0], atol=1e-6)
    np.testing.assert_allclose(served(view)["a"], normalise(vectors[20:21])[0], atol=1e-6)
    augment_all(collection)
    view = collection.view
    for slot in view.fresh.live[view.fresh.newer[view.fresh.live]]:
        averaged = view.fresh.averaged[slot]
        assert averaged is not None
        assert not {"b", "d", "01"} & set(averaged.ids)


def test_a_build_that_is_swapped_in_meanwhile_gets_nothing_of_the_earlier_one(
    collection: OpenCollection, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = rng.standard_normal((12, 8)).astype(np.float32)
    put(collection, [f"{n:02d}" for n in range(10)], vectors[:10])
    build(collection, 1, Dba(k=2))
    put(collection, ["a", "b"], vectors[10:])
    genuine = augmentation.augment_waiting

    def meanwhile(view: View, most: int) -> augmentation.AugmentedItems | None:
        augmented = genuine(view, most)
        build(collection, 2, Dba(k=2))
        return augmented

    monkeypatch.setattr(augmentation, "augment_waiting", meanwhile)
    assert collection.augment_waiting(100) == (2, 0)
    assert len(collection.view.fresh.live) == 0
    np.testing.assert_allclose(collection.view.build.vectors, augment(vectors, 2), atol=1e-5)  # type: ignore[union-attr]


def test_without_a_build_or_without_dba_nothing_is_augmented(collection: OpenCollection, rng: np.random.Generator) -> None:
    vectors = rng.standard_normal((12, 8)).astype(np.float32)
    put(collection, ["a", "b"], vectors[:2])
    assert collection.augment_waiting(100) == (0, 0)
    build(collection, 1, Dba())
    put(collection, ["c"], vectors[2:3])
    assert collection.augment_waiting(100) == (0, 0)
    assert search(collection.view, normalise(vectors[:1]), 3).hits[0].augmented == [False] * 3


def test_a_collection_of_one_and_one_whose_build_is_all_deleted_are_augmented_with_what_there_is(
    collection: OpenCollection, rng: np.random.Generator
) -> None:
    vectors = rng.standard_normal((3, 8)).astype(np.float32)
    put(collection, ["a"], vectors[:1])
    build(collection, 1, Dba(k=5))
    collection.delete(["a"])
    put(collection, ["b"], vectors[1:2])
    assert augment_all(collection) == 1
    np.testing.assert_allclose(served(collection.view)["b"], normalise(vectors[1:2])[0], atol=1e-6)
    put(collection, ["c"], vectors[2:])
    # b, which had less than it could take, has c in it too.
    assert augment_all(collection) == 2
    fresh = collection.view.fresh
    contents = {fresh.ids[slot]: fresh.averaged[slot] for slot in fresh.live}
    assert {each: averaged.ids for each, averaged in contents.items() if averaged} == {"b": ["c"], "c": ["b"]}


def test_neighbours_that_are_not_there_are_damage(collection: OpenCollection, rng: np.random.Generator, space: Space) -> None:
    put(collection, ["a", "b", "c"], rng.standard_normal((3, 8)).astype(np.float32))
    build(collection, 1, Dba(k=2))
    folder = collection.build_folder(1)
    opened = open_build(folder, 1, space)
    assert opened.augmentation is not None
    assert sorted(map(sorted, opened.augmentation.neighbours.tolist())) == [[0, 1], [0, 2], [1, 2]]
    (folder / "neighbours.u32").unlink()
    with pytest.raises(DamagedBuild):
        open_build(folder, 1, space)


class TestAugmenter:
    @pytest.fixture
    def collections(self, tmp_path: Path, catalog: Catalog, builds: BuildLog) -> Collections:
        return Collections(tmp_path / "collections", catalog, builds)

    def waiting_collection(self, collections: Collections, name: str, space: Space) -> OpenCollection:
        collections.create(name, space, "exact", Dba(), 0.95, None)
        collection = collections.get(name)
        vectors = clustered(60, 8)
        put(collection, [f"{n:02d}" for n in range(50)], vectors[:50])
        build(collection, 1, Dba(k=2))
        put(collection, [f"{n:02d}" for n in range(50, 60)], vectors[50:])
        return collection

    def test_a_failure_is_logged_and_ends_neither_the_thread_nor_the_others_turn(
        self, collections: Collections, space: Space, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bad, good = (self.waiting_collection(collections, name, space) for name in ("bad", "good"))
        deleted = self.waiting_collection(collections, "deleted", space)
        deleted.mark_closed()
        genuine, done = augmentation.augment_waiting, threading.Event()

        def failing(view: View, most: int) -> augmentation.AugmentedItems | None:
            if view.build is bad.view.build:
                raise MemoryError("no room")
            done.set()
            return genuine(view, most)

        monkeypatch.setattr(augmentation, "augment_waiting", failing)
        augmenter = Augmenter(collections, 0.01)
        with capture_logs() as logs:
            augmenter.start()
            assert done.wait(20)
            augmenter.augment_all()
            augmenter.stop()
        assert [(each["event"], each["collection"]) for each in logs] == [("augmentation_failed", "bad")]
        assert len(good.view.fresh.waiting) == 0
        assert len(bad.view.fresh.waiting) == 10
        collections.close()
