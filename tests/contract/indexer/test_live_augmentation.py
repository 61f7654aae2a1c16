"""What is written after a build is augmented in the background, and each hit can tell why it is one."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from lookalike_protos.indexer.v1 import collections_pb2, filters_pb2, search_pb2
from lookalike_protos.types.v1 import dba_pb2
from lookalike_retrieval import augment, normalise

if TYPE_CHECKING:
    from tests.contract.indexer.conftest import Indexer, Refused, Vectors

Refuse = Callable[[Callable[[], Any]], "Refused"]
Start = Callable[..., "Indexer"]

K = 2


def ids(first: int, last: int) -> list[str]:
    return [f"i{n:03d}" for n in range(first, last)]


@pytest.fixture
def vectors(rng: np.random.Generator) -> Vectors:
    return rng.standard_normal((130, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Indexer]:
    """A server that looks for fresh items often."""
    from tests.contract.indexer.conftest import Indexer

    folder = tmp_path_factory.mktemp("augmenting")
    server = Indexer(folder / "data", folder / "log", augment_seconds="0.05")
    yield server
    assert server.stop() == 0, (folder / "log").read_text()


def built(indexer: Indexer, vectors: Vectors, count: int, weights: dba_pb2.DbaWeights.ValueType = dba_pb2.DBA_WEIGHTS_EQUAL) -> str:
    """A collection whose build holds the first `count` vectors, augmented."""
    name = indexer.create(f"l{uuid.uuid4().hex[:12]}", dba=dba_pb2.DbaSpec(k=K, weights=weights))
    indexer.upsert(name, ids(0, count), vectors[:count])
    indexer.build(name)
    return name


def hits(indexer: Indexer, name: str, query: Vectors, **fields: Any) -> dict[str, Any]:
    """Score, freshness and augmentation of each of the 100 nearest."""
    answer = indexer.search(name, query, 100, **fields)
    (found,) = answer.hits
    columns = zip(found.item_indices, found.scores, found.fresh, found.augmented, strict=True)
    return {answer.items[place].id: tuple(rest) for place, *rest in columns}


def explained(indexer: Indexer, name: str, query: Vectors, **fields: Any) -> dict[str, search_pb2.Explanation]:
    answer = indexer.search(name, query, 100, explain=True, **fields)
    (found,) = answer.hits
    return {answer.items[place].id: told for place, told in zip(found.item_indices, found.explanations, strict=True)}


def wait_until_augmented(indexer: Indexer, name: str, query: Vectors) -> None:
    for _ in range(400):
        if all(augmented for _, _, augmented in hits(indexer, name, query).values()):
            return
        time.sleep(0.05)
    raise AssertionError("fresh items were never augmented")


def test_a_fresh_item_is_augmented_as_a_new_build_augments_it(quick: Indexer, vectors: Vectors) -> None:
    name, query = built(quick, vectors, 60), vectors[:1]
    quick.upsert(name, ids(60, 70), vectors[60:70])
    assert len(hits(quick, name, query)) == 70
    wait_until_augmented(quick, name, query)
    served = normalise(augment(vectors[:70], K, "equal")) @ normalise(query)[0]
    live = hits(quick, name, query)
    for each, score in zip(ids(0, 70), served, strict=True):
        assert live[each][0] == pytest.approx(score, abs=1e-5)
        assert live[each][1:] == (int(each[1:]) >= 60, True)
    collection = quick.collections.GetCollection(collections_pb2.GetCollectionRequest(name=name))
    assert (collection.item_count, collection.fresh_item_count) == (70, 10)
    quick.build(name)
    again = hits(quick, name, query)
    assert {each: (pytest.approx(score, abs=1e-5), False, True) for each, (score, _, _) in live.items()} == again


def test_a_deleted_neighbour_gives_nothing_to_what_comes_later_and_ends_in_others_with_the_next_build(
    quick: Indexer, vectors: Vectors
) -> None:
    vectors[1] = vectors[0] + 0.01
    vectors[60:62] = vectors[0] + 0.02
    name, query = built(quick, vectors, 60), vectors[:1]
    assert "i001" in {each.id for each in explained(quick, name, query)["i000"].neighbours}
    quick.delete(name, ["i001"])
    quick.upsert(name, ["i060"], vectors[60:61])
    wait_until_augmented(quick, name, query)
    told = explained(quick, name, query)
    assert "i001" not in told
    assert "i001" not in {each.id for each in told["i060"].neighbours}
    assert "i000" in {each.id for each in told["i060"].neighbours}
    left = [n for n in range(61) if n != 1]
    quick.build(name)
    again = explained(quick, name, query)
    assert all(each.id != "i001" for told in again.values() for each in told.neighbours)
    scores = augment(vectors[left], K, "equal") @ normalise(query)[0]
    live = hits(quick, name, query)
    for n, score in zip(left, scores, strict=True):
        assert live[f"i{n:03d}"][0] == pytest.approx(score, abs=1e-5)


def test_fresh_items_are_augmented_again_after_a_kill(start: Start, vectors: Vectors) -> None:
    indexer = start(augment_seconds="0.05")
    name, query = built(indexer, vectors, 40), vectors[:1]
    indexer.upsert(name, ids(40, 50), vectors[40:50])
    wait_until_augmented(indexer, name, query)
    before = hits(indexer, name, query)
    indexer.kill()
    restarted = start(augment_seconds="0.05")
    wait_until_augmented(restarted, name, query)
    assert hits(restarted, name, query) == before


def test_a_fresh_item_serves_raw_until_it_is_augmented(start: Start, vectors: Vectors) -> None:
    indexer = start(augment_seconds="3600")
    name, query = built(indexer, vectors, 40), vectors[45:46]
    indexer.upsert(name, ids(40, 50), vectors[40:50])
    live = hits(indexer, name, query)
    assert live["i045"] == (pytest.approx(1.0, abs=1e-6), True, False)
    assert {augmented for _, fresh, augmented in live.values() if not fresh} == {True}
    told = explained(indexer, name, query)["i045"]
    assert told.raw_score == pytest.approx(1.0, abs=1e-6)
    assert (told.rank, told.raw_rank, len(told.neighbours)) == (1, 1, 0)


def test_an_explanation_tells_raw_score_both_ranks_and_neighbours(quick: Indexer, vectors: Vectors) -> None:
    name, query = built(quick, vectors, 60, dba_pb2.DBA_WEIGHTS_LINEAR), vectors[3:4] + vectors[7:8]
    quick.upsert(name, ids(60, 70), vectors[60:70])
    wait_until_augmented(quick, name, query)
    units = normalise(vectors[:70])
    raw = units @ normalise(query)[0]
    served = augment(vectors[:70], K, "linear") @ normalise(query)[0]
    told = explained(quick, name, query)
    for n, each in enumerate(ids(0, 70)):
        assert told[each].raw_score == pytest.approx(raw[n], abs=1e-5)
        assert (told[each].rank, told[each].raw_rank) == (1 + (served > served[n]).sum(), 1 + (raw > raw[n]).sum())
        nearest = sorted((m for m in range(70) if m != n), key=lambda m, n=n: -float(units[m] @ units[n]))[:K]  # type: ignore[misc]
        assert [each.id for each in told[each].neighbours] == [f"i{m:03d}" for m in nearest]
        assert [each.weight for each in told[each].neighbours] == pytest.approx([2 / 3, 1 / 3])
        assert [each.similarity for each in told[each].neighbours] == pytest.approx([units[m] @ units[n] for m in nearest], abs=1e-5)
    even = filters_pb2.Filter(
        one_of=filters_pb2.FieldOneOf(path="id", values=[filters_pb2.FilterValue(text=each) for each in ids(0, 70)[::2]])
    )
    of_even = explained(quick, name, query, filter=even)
    assert len(of_even) == 35
    assert sorted(each.rank for each in of_even.values()) == sorted(each.raw_rank for each in of_even.values()) == list(range(1, 36))


def test_without_dba_nothing_is_augmented_and_both_ranks_are_one(quick: Indexer, vectors: Vectors) -> None:
    name = quick.create(f"l{uuid.uuid4().hex[:12]}")
    quick.upsert(name, ids(0, 30), vectors[:30])
    quick.build(name)
    quick.upsert(name, ids(30, 40), vectors[30:40])
    time.sleep(0.3)
    assert not any(augmented for _, _, augmented in hits(quick, name, vectors[:1]).values())
    told = explained(quick, name, vectors[:1])
    assert sorted(each.rank for each in told.values()) == list(range(1, 41))
    assert all(each.rank == each.raw_rank and not each.neighbours for each in told.values())


def test_too_much_to_explain_is_refused(quick: Indexer, vectors: Vectors, refused: Refuse) -> None:
    name = quick.create(f"l{uuid.uuid4().hex[:12]}")
    for count, k in ((17, 10), (1, 101)):
        told = refused(lambda count=count, k=k: quick.search(name, vectors[:count], k, explain=True))  # type: ignore[misc]
        assert (told.code, told.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["explain"])
    assert len(quick.search(name, vectors[:16], 100, explain=True).hits) == 16
