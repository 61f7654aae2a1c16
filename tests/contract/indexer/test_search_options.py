"""What a search may want beside the nearest items, over a real socket."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from lookalike_protos.indexer.v1 import search_pb2
from lookalike_protos.packing import pack_vectors
from tests.contract.indexer.conftest import space

if TYPE_CHECKING:
    from tests.contract.indexer.conftest import Indexer, Refused, Vectors

Refuse = Callable[[Callable[[], Any]], "Refused"]
Code = grpc.StatusCode
IDS = [f"i{n:02d}" for n in range(40)]
BEST = search_pb2.COMBINE_BEST


@pytest.fixture
def vectors(rng: np.random.Generator) -> Vectors:
    return rng.standard_normal((40, 8)).astype(np.float32)


@pytest.fixture
def filled(indexer: Indexer, name: str, vectors: Vectors) -> str:
    """A collection of 30 items in a build, augmented, and 10 newer ones."""
    indexer.upsert(name, IDS[:30], vectors[:30])
    indexer.build(name, dba=2)
    indexer.upsert(name, IDS[30:], vectors[30:])
    return name


def ask(indexer: Indexer, name: str, k: int = 10, **fields: Any) -> search_pb2.SearchResponse:
    return indexer.searches.Search(search_pb2.SearchRequest(collection=name, k=k, **fields))


def columns(answer: search_pb2.SearchResponse) -> list[list[tuple[str, float]]]:
    return [[(answer.items[i].id, score) for i, score in zip(hits.item_indices, hits.scores, strict=True)] for hits in answer.hits]


def unit(rows: Vectors) -> Vectors:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


def test_items_ask_with_their_raw_vectors_and_are_no_hits_of_their_query(indexer: Indexer, filled: str, vectors: Vectors) -> None:
    for ids in (["i03"], ["i35", "i03"]):
        by_items = columns(ask(indexer, filled, 39, item_ids=ids))
        by_vectors = columns(indexer.search(filled, vectors[[int(each[1:]) for each in ids]], 40))
        for one, hits, others in zip(ids, by_items, by_vectors, strict=True):
            assert hits == [hit for hit in others if hit[0] != one]


def test_an_item_that_was_just_written_can_ask_and_a_deleted_one_cannot(indexer: Indexer, filled: str, refused: Refuse) -> None:
    indexer.upsert(filled, ["i03"], np.eye(8, dtype=np.float32)[:1])
    expected = columns(indexer.search(filled, np.eye(8, dtype=np.float32)[:1], 11))[0][1:]
    assert columns(ask(indexer, filled, item_ids=["i03"])) == [expected]
    indexer.delete(filled, ["i03"])
    told = refused(lambda: ask(indexer, filled, item_ids=["i04", "i03", "nobody"]))
    assert (told.code, told.reason) == (Code.NOT_FOUND, "ITEM_NOT_FOUND")
    assert "i03" in told.message


def test_several_pictures_are_their_mean_or_the_best_of_their_scores(indexer: Indexer, filled: str, rng: np.random.Generator) -> None:
    queries = 3 * rng.standard_normal((5, 8)).astype(np.float32)
    alone = [dict(hits) for hits in columns(indexer.search(filled, queries, 40))]
    best = columns(indexer.search(filled, queries, 40, query_sizes=[2, 3], combine=BEST))
    for hits, scores in zip(best, (alone[:2], alone[2:]), strict=True):
        expected = {each: max(its[each] for its in scores) for each in IDS}
        assert dict(hits) == pytest.approx(expected, abs=1e-6)
        assert [score for _, score in hits] == sorted((score for _, score in hits), reverse=True)
    mean = columns(indexer.search(filled, queries, 7, query_sizes=[2, 3]))
    means = np.stack([unit(queries[:2]).mean(axis=0), unit(queries[2:]).mean(axis=0)])
    for hits, others in zip(mean, columns(indexer.search(filled, means, 7)), strict=True):
        assert [each for each, _ in hits] == [each for each, _ in others]


def test_a_least_score_holds_as_answered(indexer: Indexer, filled: str, vectors: Vectors) -> None:
    (hits,) = columns(indexer.search(filled, vectors[:1], 20))
    (worthy,) = columns(indexer.search(filled, vectors[:1], 20, min_score=hits[6][1]))
    assert worthy == hits[:7]


def test_expansion_searches_again_with_the_mean_of_what_was_found(indexer: Indexer, filled: str, vectors: Vectors) -> None:
    fresh = vectors[30:]
    query = unit(vectors[:1])
    scores = unit(fresh) @ query[0]
    nearest = np.argsort(-scores)[:3]
    wanted = {"one_of": {"path": "id", "values": [{"text": each} for each in IDS[30:]]}}
    for alpha in (0.0, 2.0):
        weights = np.maximum(scores[nearest], 0) ** alpha if alpha else np.ones(3)
        expanded = query + weights @ unit(fresh)[nearest]
        expected = columns(indexer.search(filled, expanded, 10, filter=wanted))
        answer = columns(indexer.search(filled, query, 10, filter=wanted, expansion={"k": 3, "alpha": alpha}))
        assert [each for each, _ in answer[0]] == [each for each, _ in expected[0]]
        np.testing.assert_allclose([score for _, score in answer[0]], [score for _, score in expected[0]], atol=1e-6)


def test_groups_have_the_best_hit_of_each_label_and_every_unlabelled_item(indexer: Indexer, name: str, rng: np.random.Generator) -> None:
    vectors = rng.standard_normal((400, 8)).astype(np.float32)
    ids = [f"{n:03d}" for n in range(400)]
    chunk = indexer.chunk(ids, vectors)
    labels = {each: ("" if n < 3 else "rare" if n == 3 else f"label {n % 5}") for n, each in enumerate(ids)}
    for item in chunk.chunk.items:
        item.label = labels[item.id]
    list(indexer.items.UpsertItems(iter([type(chunk)(collection=name), chunk])))
    for _ in range(2):
        (every,) = columns(indexer.search(name, vectors[9:10], 400))
        best = {labels[each]: each for each, _ in reversed(every)}
        expected = [hit for hit in every if not labels[hit[0]] or best[labels[hit[0]]] == hit[0]]
        assert len(expected) == 9
        for k in (1, 4, 9, 20):
            assert columns(indexer.search(name, vectors[9:10], k, group_by_label=True)) == [expected[:k]]
        indexer.build(name)


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({}, "queries"),
        ({"item_ids": ["a"], "queries": True}, "item_ids"),
        ({"item_ids": ["a"] * 257}, "item_ids"),
        ({"item_ids": ["a", ""]}, "item_ids[1]"),
        ({"item_ids": ["a" * 513]}, "item_ids[0]"),
        ({"queries": True, "query_sizes": [1, 0]}, "query_sizes[1]"),
        ({"queries": True, "query_sizes": [33]}, "query_sizes[0]"),
        ({"queries": True, "query_sizes": [1]}, "query_sizes"),
        ({"item_ids": ["a", "b"], "query_sizes": [1, 2]}, "query_sizes"),
        ({"queries": True, "combine": 9}, "combine"),
        ({"queries": True, "min_score": 1.5}, "min_score"),
        ({"queries": True, "min_score": math.nan}, "min_score"),
        ({"queries": True, "expansion": {}}, "expansion.k"),
        ({"queries": True, "expansion": {"k": 101}}, "expansion.k"),
        ({"queries": True, "expansion": {"k": 1, "alpha": -1}}, "expansion.alpha"),
        ({"queries": True, "expansion": {"k": 1, "alpha": 21}}, "expansion.alpha"),
        ({"queries": True, "expansion": {"k": 1, "alpha": math.nan}}, "expansion.alpha"),
        ({"queries": True, "recall": 0}, "recall"),
        ({"queries": True, "recall": 1}, "recall"),
        ({"queries": True, "recall": math.nan}, "recall"),
        ({"queries": True, "explain": True, "combine": BEST}, "explain"),
        ({"queries": True, "explain": True, "k": 101}, "explain"),
        ({"item_ids": ["a"] * 17, "explain": True}, "explain"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_field(
    indexer: Indexer, name: str, refused: Refuse, fields: dict[str, Any], wrong: str
) -> None:
    if fields.get("queries"):
        fields = fields | {"queries": pack_vectors(np.ones((2, 8), np.float32), space())}
    told = refused(lambda: ask(indexer, name, **fields))
    assert (told.code, told.fields) == (Code.INVALID_ARGUMENT, [wrong])


def test_pictures_whose_mean_vanishes_have_no_direction(indexer: Indexer, name: str, refused: Refuse) -> None:
    opposite = np.array([[1, 1, 0, 0, 0, 0, 0, 0], [-2, -2, 0, 0, 0, 0, 0, 0]], np.float32)
    told = refused(lambda: indexer.search(name, opposite, query_sizes=[2]))
    assert (told.code, told.reason) == (Code.INVALID_ARGUMENT, "ZERO_VECTOR")
    assert len(indexer.search(name, opposite, query_sizes=[2], combine=BEST).hits) == 1


def test_a_recall_that_nothing_was_measured_to_reach_is_searched_exactly(indexer: Indexer, name: str, rng: np.random.Generator) -> None:
    vectors = rng.standard_normal((300, 8)).astype(np.float32)
    indexer.upsert(name, [f"{n:03d}" for n in range(300)], vectors)
    plan = indexer.build(name, force_engine=True).report.plan
    (entry,) = (each for each in plan if each.k == 10 and not each.batch)
    answer = indexer.search(name, vectors[:1], 10, recall=min(entry.recall_low, 0.999))
    assert (answer.source, answer.exact) == (entry.source, False)
    assert indexer.search(name, vectors[:1], 10, recall=0.9999).exact
