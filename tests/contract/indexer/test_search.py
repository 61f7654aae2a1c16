from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from lookalike_protos.indexer.v1 import items_pb2

if TYPE_CHECKING:
    from tests.contract.indexer.conftest import Indexer, Refused, Vectors

Refuse = Callable[[Callable[[], Any]], "Refused"]
Code = grpc.StatusCode


def brute(ids: list[str], vectors: Vectors, query: Vectors, k: int) -> list[tuple[str, float]]:
    """The nearest by a plain loop."""
    scored = []
    for each, vector in zip(ids, vectors, strict=True):
        cosine = float(
            np.dot(vector.astype(float), query.astype(float)) / np.linalg.norm(vector.astype(float)) / np.linalg.norm(query.astype(float))
        )
        scored.append((-cosine, each))
    return [(each, -score) for score, each in sorted(scored)[:k]]


def test_search_is_a_plain_loop_before_the_first_build_and_after_it(indexer: Indexer, name: str, rng: np.random.Generator) -> None:
    ids = [f"i{n:03d}" for n in range(120)]
    vectors = rng.standard_normal((120, 8)).astype(np.float32)
    queries = 5 * rng.standard_normal((4, 8)).astype(np.float32)
    indexer.upsert(name, ids, vectors)
    expected = [brute(ids, vectors, query, 7) for query in queries]
    for fresh in (True, False):
        answer = indexer.search(name, queries, 7)
        assert answer.exact
        assert answer.search_k == 0
        for hits, right in zip(answer.hits, expected, strict=True):
            assert [answer.items[place].id for place in hits.item_indices] == [each for each, _ in right]
            np.testing.assert_allclose(hits.scores, [score for _, score in right], atol=1e-6)
            assert set(hits.fresh) == {fresh}
        assert indexer.build(name).report.engine
    assert answer.build.endswith("/builds/1")


def test_equal_scores_are_ordered_by_id_wherever_their_items_are(indexer: Indexer, name: str, rng: np.random.Generator) -> None:
    vector = rng.standard_normal((1, 8)).astype(np.float32)
    ids = [f"{n:02d}" for n in rng.permutation(60)]
    indexer.upsert(name, ids[:20], np.repeat(vector, 20, axis=0))
    assert indexer.found(name, vector, 5) == [sorted(ids[:20])[:5]]
    indexer.build(name)
    indexer.upsert(name, ids[20:], 2 * np.repeat(vector, 40, axis=0))
    assert indexer.found(name, vector, 60) == [sorted(ids)]
    assert indexer.found(name, vector, 5) == [sorted(ids)[:5]]


def test_an_item_that_several_queries_find_comes_once(indexer: Indexer, name: str, rng: np.random.Generator) -> None:
    vectors = rng.standard_normal((3, 8)).astype(np.float32)
    indexer.upsert(name, ["a", "b", "c"], vectors)
    answer = indexer.search(name, vectors, 3)
    assert sorted(item.id for item in answer.items) == ["a", "b", "c"]
    assert all(sorted(hits.item_indices) == [0, 1, 2] for hits in answer.hits)


def test_an_empty_collection_has_no_hits(indexer: Indexer, name: str) -> None:
    answer = indexer.search(name, np.ones((2, 8), np.float32))
    assert [list(hits.item_indices) for hits in answer.hits] == [[], []]
    assert (answer.revision, answer.build) == (0, "")


@pytest.mark.parametrize("k", [0, 1001])
def test_k_out_of_range_is_refused(indexer: Indexer, name: str, refused: Refuse, k: int) -> None:
    assert refused(lambda: indexer.search(name, np.ones((1, 8), np.float32), k)).fields == ["k"]


def test_a_thousand_hits_are_given(indexer: Indexer, name: str, rng: np.random.Generator) -> None:
    vectors = rng.standard_normal((1100, 8)).astype(np.float32)
    indexer.upsert(name, [f"i{n:04d}" for n in range(1100)], vectors)
    assert len(set(indexer.found(name, vectors[:1], 1000)[0])) == 1000


def test_queries_that_cannot_be_searched_are_refused(indexer: Indexer, name: str, refused: Refuse) -> None:
    ones = np.ones((1, 8), np.float32)
    told = refused(lambda: indexer.search(name, np.zeros((1, 8), np.float32)))
    assert (told.code, told.reason) == (Code.INVALID_ARGUMENT, "ZERO_VECTOR")
    told = refused(lambda: indexer.search(name, np.full((1, 8), np.nan, np.float32)))
    assert (told.code, told.reason) == (Code.INVALID_ARGUMENT, "NOT_FINITE")
    assert refused(lambda: indexer.search(name, np.ones((0, 8), np.float32))).fields == ["queries"]
    assert refused(lambda: indexer.search(name, np.ones((257, 8), np.float32))).fields == ["queries"]
    assert refused(lambda: indexer.search(name, ones, exact=False)).fields == ["exact"]
    assert refused(lambda: indexer.search(name, ones, search_k=0)).fields == ["search_k"]
    assert refused(lambda: indexer.search(name, ones, search_k=10_000_001)).fields == ["search_k"]
    assert refused(lambda: indexer.search(name, ones, view=9)).fields == ["view"]
    assert refused(lambda: indexer.search("collections/nobody", ones)).reason == "COLLECTION_NOT_FOUND"
    assert refused(lambda: indexer.search("collections/../x", ones)).fields == ["collection"]


def test_hits_that_do_not_fit_into_an_answer_are_refused(indexer: Indexer, name: str, refused: Refuse, rng: np.random.Generator) -> None:
    indexer.upsert(name, [f"i{n:03d}" for n in range(500)], rng.standard_normal((500, 8)).astype(np.float32), thumbnail=b"t" * 32 * 1024)
    query = np.ones((1, 8), np.float32)
    assert refused(lambda: indexer.search(name, query, 500, view=items_pb2.ITEM_VIEW_THUMBNAIL)).fields == ["view"]
    assert len(indexer.found(name, query, 500)[0]) == 500


def test_ids_alone_that_do_not_fit_into_an_answer_are_refused(indexer: Indexer, refused: Refuse) -> None:
    name = indexer.create("many-long-ids", dim=22)
    axes = np.eye(22, dtype=np.float32)
    indexer.upsert(name, [f"{n:0512d}" for n in range(22_000)], axes.repeat(1_000, axis=0), label="l")
    # Each takes 64 bytes beside its id, so that 21,845 of them are 12 MiB.
    assert refused(lambda: indexer.search(name, axes, 1_000, view=items_pb2.ITEM_VIEW_ID)).fields == ["view"]
    assert len(indexer.search(name, axes[:21], 1_000, view=items_pb2.ITEM_VIEW_ID).items) == 21_000
