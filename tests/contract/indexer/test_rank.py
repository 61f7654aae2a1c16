from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import psutil
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


def weight(kind: dba_pb2.DbaWeights.ValueType, k: int, rank: int, cosine: float) -> float:
    by_rank = {dba_pb2.DBA_WEIGHTS_EQUAL: 1.0, dba_pb2.DBA_WEIGHTS_LINEAR: 1 - rank / (k + 1), dba_pb2.DBA_WEIGHTS_RANK: 1 / (1 + rank)}
    return float(by_rank.get(kind, max(0.0, cosine) ** 2.5))


@pytest.mark.parametrize("kind", dba_pb2.DbaWeights.values()[1:])
def test_each_kind_of_augmentation_and_its_rounds_are_those_of_a_plain_loop(
    indexer: Indexer, sides: tuple[str, str, Vectors, Vectors], kind: dba_pb2.DbaWeights.ValueType
) -> None:
    expected = sides[3].astype(float)
    for _ in range(2):
        units = expected / np.linalg.norm(expected, axis=1, keepdims=True)
        cosines = units @ units.T
        order = [[int(o) for o in np.argsort(-row) if o != own][:3] for own, row in enumerate(cosines)]
        weights = [[weight(kind, 3, r + 1, cosines[own, o]) for r, o in enumerate(others)] for own, others in enumerate(order)]
        expected = np.array([units[own] + np.array(weights[own]) @ units[others] for own, others in enumerate(order)])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    power = 2.5 if kind == dba_pb2.DBA_WEIGHTS_POWER else 0
    ranking = Ranking(call(indexer, sides[0], sides[1], 40, reference_dba=dba_pb2.DbaSpec(k=3, weights=kind, power=power, rounds=2)))
    queries = loop_augment(sides[2], 0, [])
    for query, row in zip(queries, ranking.rows.values(), strict=True):
        for name, score in row:
            assert score == pytest.approx(float(expected[int(name)] @ query), abs=2e-5)


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
    for wrong, field in (
        (dba_pb2.DbaSpec(k=1, power=2), "power"),
        (dba_pb2.DbaSpec(k=1, weights=dba_pb2.DBA_WEIGHTS_POWER, power=-1), "power"),
        (dba_pb2.DbaSpec(k=1, weights=dba_pb2.DBA_WEIGHTS_POWER, power=20.5), "power"),
        (dba_pb2.DbaSpec(k=1, weights=dba_pb2.DBA_WEIGHTS_POWER, power=float("nan")), "power"),
        (dba_pb2.DbaSpec(k=1, rounds=11), "rounds"),
    ):
        told = refused(lambda wrong=wrong: call(indexer, name, name, reference_dba=wrong))  # type: ignore[misc]
        assert told.fields == [f"reference_dba.{field}"]
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


def begin_long(server: Indexer, rng: np.random.Generator) -> tuple[str, Iterator[search_pb2.RankResponse], psutil.Process]:
    """A ranking whose answer is more than what lies between server and client unread, and its process."""
    name = server.create(f"r{uuid.uuid4().hex[:12]}", dim=16)
    server.upsert(name, [f"{n:05d}" for n in range(4000)], rng.standard_normal((4000, 16)).astype(np.float32))
    parts = call(server, name, name, k=1000)
    assert next(parts).HasField("start")
    (worker,) = (each for each in psutil.Process(server.process.pid).children() if "lookalike_indexer.rank" in each.cmdline())
    return name, parts, worker


def left_of(server: Indexer) -> list[str]:
    return [each.name for each in (server.data / "indexer" / "rankings").iterdir()]


def wait_until(done: Callable[[], bool]) -> None:
    for _ in range(200):
        if done():
            return
        time.sleep(0.05)
    pytest.fail("it did not come about")


def test_a_cancelled_ranking_ends_its_process_and_leaves_no_file(start: Callable[..., Indexer], rng: np.random.Generator) -> None:
    server = start()
    _, parts, worker = begin_long(server, rng)
    assert len(left_of(server)) == 1
    assert worker.nice() >= 10
    parts.cancel()  # type: ignore[attr-defined]
    wait_until(lambda: not worker.is_running() and not left_of(server))


def test_a_crash_of_the_process_is_told_and_the_server_goes_on(
    start: Callable[..., Indexer], refused: Refuse, rng: np.random.Generator
) -> None:
    server = start()
    name, parts, worker = begin_long(server, rng)
    worker.kill()
    told = refused(lambda: parts)
    assert (told.code, told.reason) == (Code.INTERNAL, "RANK_CRASHED")
    assert "signal 9" in told.message
    wait_until(lambda: not left_of(server))
    assert len(Ranking(call(server, name, name, k=1)).rows) == 4000


def test_what_a_killed_server_left_of_a_ranking_is_gone_with_the_next(start: Callable[..., Indexer], rng: np.random.Generator) -> None:
    server = start()
    _, _, worker = begin_long(server, rng)
    server.kill()
    wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
    assert left_of(server)
    assert left_of(start()) == []


def test_a_server_that_stops_ends_a_ranking_at_once(start: Callable[..., Indexer], refused: Refuse, rng: np.random.Generator) -> None:
    server = start()
    _, parts, worker = begin_long(server, rng)
    server.process.terminate()
    told = refused(lambda: parts)
    assert (told.code, told.reason, told.retry) == (Code.UNAVAILABLE, "DRAINING", True)
    assert server.process.wait(10) == 0
    assert not worker.is_running()
    assert left_of(server) == []


def test_a_ranking_during_writes_is_of_one_state(indexer: Indexer, rng: np.random.Generator) -> None:
    """Every write moves all items to the same side of the space, so that a state that mixes two writes shows."""
    name = indexer.create(f"r{uuid.uuid4().hex[:12]}", dim=8)
    ids = [f"{n:05d}" for n in range(400)]

    def write(sign: int) -> None:
        indexer.upsert(name, ids, sign * np.abs(rng.standard_normal((400, 8))).astype(np.float32))

    write(1)
    stopping = threading.Event()

    def keep_writing() -> None:
        sign = -1
        while not stopping.is_set():
            write(sign)
            sign = -sign

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        for _ in range(3):
            ranking = Ranking(call(indexer, name, name, k=400))
            assert ranking.references == ids
            assert all(score > 0 for row in ranking.rows.values() for _, score in row)
    finally:
        stopping.set()
        writer.join()
