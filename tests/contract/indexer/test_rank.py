from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from lookalike_protos.indexer.v1 import collections_pb2, search_pb2
from lookalike_protos.types.v1 import dba_pb2, space_pb2

if TYPE_CHECKING:
    from tests.contract.indexer.conftest import Indexer, Refused, Vectors

Refuse = Callable[[Callable[[], Any]], "Refused"]
Code = grpc.StatusCode


def call(indexer: Indexer, queries: str, references: str, k: int = 5, **fields: Any) -> Iterator[search_pb2.RankResponse]:
    request = search_pb2.RankRequest(query_collection=queries, reference_collection=references, k=k, **fields)
    return indexer.searches.Rank(request)


class Ranking:
    """A ranking as its parts say, which must come in their order."""

    def __init__(self, parts: Iterator[search_pb2.RankResponse]) -> None:
        self.start = next(parts).start
        self.references: list[str] = []
        self.rows: dict[str, list[tuple[str, float]]] = {}
        self.stages: list[str] = []
        for part in parts:
            which = part.WhichOneof("message")
            assert which in ("reference_ids", "rows", "progress")
            if which == "reference_ids":
                assert not self.rows
                self.references += part.reference_ids.ids
            elif which == "progress":
                self.stages.append(part.progress.stage)
            else:
                self._add(part.rows)

    def _add(self, rows: search_pb2.RankRows) -> None:
        indices = np.frombuffer(rows.indices, "<u4").reshape(-1, rows.width)
        scores = np.frombuffer(rows.scores, "<f4").reshape(-1, rows.width)
        for query, places, row in zip(rows.query_ids, indices.tolist(), scores.tolist(), strict=True):
            self.rows[query] = [(self.references[place], score) for place, score in zip(places, row, strict=True)]


def loop_augment(vectors: Vectors, k: int, weights: list[float]) -> Vectors:
    """Augmentation by a plain loop."""
    units = [vector / np.linalg.norm(vector) for vector in vectors.astype(float)]
    augmented = []
    for own, unit in enumerate(units):
        others = sorted((other for other in range(len(units)) if other != own), key=lambda other: (-float(unit @ units[other]), other))
        total = unit + sum(weight * units[other] for weight, other in zip(weights, others[:k], strict=True))
        augmented.append(total / np.linalg.norm(total))
    return np.array(augmented)


@pytest.fixture
def sides(indexer: Indexer, rng: np.random.Generator) -> tuple[str, str, Vectors, Vectors]:
    """A query collection of 12 and a reference collection of 40, ids out of order."""
    queries, references = rng.standard_normal((12, 8)).astype(np.float32), rng.standard_normal((40, 8)).astype(np.float32)
    names = [indexer.create(f"r{uuid.uuid4().hex[:12]}") for _ in range(2)]
    for name, vectors in zip(names, (queries, references), strict=True):
        order = rng.permutation(len(vectors))
        indexer.upsert(name, [f"{n:02d}" for n in order], vectors[order])
    return names[0], names[1], queries, references


@pytest.mark.parametrize("augmented", [False, True])
def test_a_ranking_is_a_plain_loop_with_and_without_augmentation(
    indexer: Indexer, sides: tuple[str, str, Vectors, Vectors], augmented: bool
) -> None:
    query_name, reference_name, queries, references = sides
    dba: dict[str, Any] = {}
    left, right = loop_augment(queries, 0, []), loop_augment(references, 0, [])
    if augmented:
        dba = {
            "query_dba": dba_pb2.DbaSpec(k=2, weights=dba_pb2.DBA_WEIGHTS_EQUAL),
            "reference_dba": dba_pb2.DbaSpec(k=3, weights=dba_pb2.DBA_WEIGHTS_LINEAR),
        }
        left, right = loop_augment(queries, 2, [1, 1]), loop_augment(references, 3, [0.75, 0.5, 0.25])
    ranking = Ranking(call(indexer, query_name, reference_name, **dba))
    assert (ranking.start.query_collection, ranking.start.reference_collection) == (query_name, reference_name)
    assert (ranking.start.query_count, ranking.start.reference_count) == (12, 40)
    assert (ranking.start.query_revision, ranking.start.reference_revision) == (1, 1)
    assert ranking.references == [f"{n:02d}" for n in range(40)]
    assert list(ranking.rows) == [f"{n:02d}" for n in range(12)]
    assert ("augment references" in ranking.stages) == augmented
    assert "rank" in ranking.stages
    for query, row in zip(left, ranking.rows.values(), strict=True):
        scores = right @ query
        expected = sorted(range(40), key=lambda place: (-scores[place], place))[:5]
        assert [each for each, _ in row] == [f"{place:02d}" for place in expected]
        np.testing.assert_allclose([score for _, score in row], scores[expected], atol=1e-5)


def test_a_collection_ranked_against_itself_leaves_each_out_of_its_own_row(
    indexer: Indexer, sides: tuple[str, str, Vectors, Vectors]
) -> None:
    name = sides[0]
    ranking = Ranking(call(indexer, name, name, k=1000, exclude_same_id=True))
    assert all(len(row) == 11 and query not in dict(row) for query, row in ranking.rows.items())
    assert all(row[0][0] == query for query, row in Ranking(call(indexer, name, name)).rows.items())


def test_a_repeated_ranking_is_the_same_to_the_byte(indexer: Indexer, sides: tuple[str, str, Vectors, Vectors]) -> None:
    first, second = ([part.SerializeToString() for part in call(indexer, sides[0], sides[1], k=40)] for _ in range(2))
    assert first == second


def test_a_ranking_that_cannot_be_is_refused(indexer: Indexer, sides: tuple[str, str, Vectors, Vectors], refused: Refuse) -> None:
    name, empty = sides[0], indexer.create(f"r{uuid.uuid4().hex[:12]}")
    for k in (0, 1001):
        assert refused(lambda k=k: call(indexer, name, name, k)).fields == ["k"]  # type: ignore[misc]
    for pair in ((name, empty), (empty, name)):
        told = refused(lambda pair=pair: call(indexer, *pair))  # type: ignore[misc]
        assert (told.code, told.reason) == (Code.FAILED_PRECONDITION, "COLLECTION_EMPTY")
    assert refused(lambda: call(indexer, name, "collections/nobody")).reason == "COLLECTION_NOT_FOUND"
    assert refused(lambda: call(indexer, name, name, query_dba=dba_pb2.DbaSpec(k=101))).fields == ["query_dba.k"]
    other = space_pb2.Space(fingerprint="ls1:" + "b" * 64, dim=8, metric=space_pb2.METRIC_COSINE)
    request = collections_pb2.CreateCollectionRequest(
        collection_id=f"r{uuid.uuid4().hex[:12]}", collection=collections_pb2.Collection(space=other)
    )
    told = refused(lambda: call(indexer, name, indexer.collections.CreateCollection(request).name))
    assert (told.code, told.reason) == (Code.FAILED_PRECONDITION, "SPACE_MISMATCH")


def test_one_ranking_at_a_time_and_the_next_is_told_when_to_come_again(indexer: Indexer, refused: Refuse, rng: np.random.Generator) -> None:
    name = indexer.create(f"r{uuid.uuid4().hex[:12]}", dim=16)
    indexer.upsert(name, [f"{n:05d}" for n in range(4000)], rng.standard_normal((4000, 16)).astype(np.float32))
    # More than what lies between server and client unread: the server waits in the midst of it.
    first = call(indexer, name, name, k=1000)
    assert next(first).HasField("start")
    told = refused(lambda: call(indexer, name, name))
    assert (told.code, told.reason, told.retry) == (Code.RESOURCE_EXHAUSTED, "RANK_RUNNING", True)
    first.cancel()  # type: ignore[attr-defined]
    for _ in range(100):
        with suppress(grpc.RpcError):
            assert len(Ranking(call(indexer, name, name, k=1)).rows) == 4000
            return
        time.sleep(0.05)
    pytest.fail("a cancelled ranking kept its turn")
