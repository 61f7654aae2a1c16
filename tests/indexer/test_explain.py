"""Why a hit is one, held against plain loops over every item."""

from __future__ import annotations

import numpy as np
import pytest

from lookalike_indexer.collection import OpenCollection
from lookalike_indexer.explain import explain
from lookalike_indexer.records import Dba
from lookalike_indexer.search import search
from lookalike_indexer.view import View
from lookalike_retrieval import augment, normalise
from tests.indexer.made_builds import Vectors, build, put


def raw_and_served(view: View) -> tuple[dict[str, Vectors], dict[str, Vectors]]:
    fresh = view.fresh
    slots = {fresh.ids[slot]: slot for slot in fresh.live.tolist()}
    raw = {each: fresh.units[fresh.raw_slots[slot]] for each, slot in slots.items()}
    served = {each: fresh.units[slot] for each, slot in slots.items()}
    if view.build is not None:
        rows = {each: row for each, row in view.build.rows.items() if not view.dead[row]}
        raw |= {each: view.build.raw[row] for each, row in rows.items()}
        served |= {each: view.build.vectors[row] for each, row in rows.items()}
    return raw, served


def check(view: View, queries: Vectors, k: int) -> None:
    hits = search(view, queries, k).hits
    raw, served = raw_and_served(view)
    for query, found, told in zip(queries, hits, explain(view, queries, hits), strict=True):
        assert len(told) == len(found.ids)
        by_raw = {each: np.float32(vector.astype(float) @ query.astype(float)) for each, vector in raw.items()}
        by_served = {each: np.float32(vector.astype(float) @ query.astype(float)) for each, vector in served.items()}
        for each, explanation in zip(found.ids, told, strict=True):
            assert explanation.raw_score == pytest.approx(by_raw[each], abs=1e-6)
            assert explanation.rank == 1 + sum(score > by_served[each] for score in by_served.values())
            assert explanation.raw_rank == 1 + sum(score > by_raw[each] for score in by_raw.values())


@pytest.mark.parametrize("dba", [Dba(), Dba(k=3, weights="equal"), Dba(k=2, weights="power", power=1.5)], ids=["none", "equal", "power"])
@pytest.mark.parametrize("augmented", [False, True])
def test_ranks_are_those_of_a_plain_loop_over_all_items(
    collection: OpenCollection, rng: np.random.Generator, dba: Dba, augmented: bool
) -> None:
    # Few values make many equal scores, and so ties.
    vectors = rng.integers(-1, 2, (120, 8)).astype(np.float32) + np.float32(0.5)
    queries = normalise(rng.integers(-1, 2, (5, 8)) + 0.5)
    put(collection, [f"{n:03d}" for n in range(90)], vectors[:90])
    check(collection.view, queries, 12)
    build(collection, 1, dba)
    check(collection.view, queries, 12)
    put(collection, [f"{n:03d}" for n in range(80, 120)], vectors[80:])
    collection.delete(["003", "085"])
    while augmented and collection.augment_waiting(16)[0]:
        pass
    check(collection.view, queries, 12)
    check(collection.view.only([f"{n:03d}" for n in range(0, 120, 3)]), queries, 12)
    check(collection.view.only([]), queries, 3)


def test_neighbours_are_those_that_were_averaged_in(collection: OpenCollection, rng: np.random.Generator) -> None:
    vectors = rng.standard_normal((40, 8)).astype(np.float32)
    ids = [f"{n:02d}" for n in range(40)]
    put(collection, ids[:30], vectors[:30])
    build(collection, 1, Dba(k=3, weights="linear"))
    put(collection, ids[30:], vectors[30:])
    query = normalise(vectors[35:36])
    (before,) = explain(collection.view, query, search(collection.view, query, 40).hits)
    hits = search(collection.view, query, 40).hits
    raw = dict(zip(ids, normalise(vectors), strict=True))
    for fresh, told in zip(hits[0].fresh, before, strict=True):
        assert len(told.averaged.ids) == (0 if fresh else 3)
    while collection.augment_waiting(4)[0]:
        pass
    hits = search(collection.view, query, 40).hits
    for each, told in zip(hits[0].ids, explain(collection.view, query, hits)[0], strict=True):
        np.testing.assert_allclose(told.averaged.weights, [0.75, 0.5, 0.25])
        np.testing.assert_allclose(told.averaged.similarities, [raw[other] @ raw[each] for other in told.averaged.ids], atol=1e-6)
        mean = raw[each] + sum(w * raw[other] for w, other in zip(told.averaged.weights, told.averaged.ids, strict=True))
        assert hits[0].scores[hits[0].ids.index(each)] == pytest.approx(float(mean @ query[0]) / np.linalg.norm(mean), abs=1e-5)
    np.testing.assert_allclose(
        [hits[0].scores[hits[0].ids.index(each)] for each in ids], augment(vectors, 3) @ query[0], atol=1e-5
    )  # All as a new build has them: nothing was deleted.
