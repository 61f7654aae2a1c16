from __future__ import annotations

import uuid
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from lookalike_protos.indexer.v1 import builds_pb2, collections_pb2
from lookalike_protos.types.v1 import dba_pb2, operations_pb2
from lookalike_retrieval import augment, exact_topk, normalise

if TYPE_CHECKING:
    from tests.contract.indexer.conftest import Indexer, Refused, Vectors

Refuse = Callable[[Callable[[], Any]], "Refused"]
Code = grpc.StatusCode


def clustered(count: int, dim: int, seed: int = 3) -> Vectors:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((count // 10, dim))
    return (centres[rng.integers(len(centres), size=count)] + 0.5 * rng.standard_normal((count, dim))).astype(np.float32)


def numbered(count: int) -> list[str]:
    return [f"i{n:05d}" for n in range(count)]


def fresh(indexer: Indexer, **fields: Any) -> str:
    return indexer.create(f"b{uuid.uuid4().hex[:12]}", **fields)


def get(indexer: Indexer, name: str) -> builds_pb2.Build:
    return indexer.builds.GetBuild(builds_pb2.GetBuildRequest(name=name))


def collection(indexer: Indexer, name: str) -> collections_pb2.Collection:
    return indexer.collections.GetCollection(collections_pb2.GetCollectionRequest(name=name))


def activate(indexer: Indexer, name: str) -> builds_pb2.Build:
    return indexer.builds.ActivateBuild(builds_pb2.ActivateBuildRequest(name=name))


def watch(indexer: Indexer, name: str, after: int = 0) -> list[operations_pb2.Event]:
    return list(indexer.builds.WatchBuild(builds_pb2.WatchBuildRequest(name=name, after_sequence=after)))


def long_build(indexer: Indexer, name: str) -> builds_pb2.Build:
    """Begin a build that takes long enough to do things meanwhile, and see it run."""
    begun = indexer.begin(name, trees=1000, force_engine=True)
    for event in indexer.builds.WatchBuild(builds_pb2.WatchBuildRequest(name=begun.name)):
        if event.progress.stage == "index":
            break
    return begun


def test_annoy_is_used_for_real_and_its_reported_recall_is_what_searches_reach(indexer: Indexer) -> None:
    name, vectors = fresh(indexer, dim=32), clustered(1500, 32)
    indexer.upsert(name, numbered(1500), vectors)
    build = indexer.build(name, trees=30, reduced_dim=16, force_engine=True)
    report = build.report
    assert build.active
    assert (report.engine, report.trees, report.reduced_dim) == (collections_pb2.ENGINE_ANNOY, 30, 16)
    assert (report.item_count, report.probe_count, report.recall_target) == (1500, 150, 0.95)
    assert report.chosen in list(report.curve)
    assert report.chosen.recall_at_10_low >= 0.95
    assert [point.milliseconds for point in report.curve] == sorted(point.milliseconds for point in report.curve)
    units = normalise(vectors)
    rows = np.arange(0, 1500, 15)
    truth = exact_topk(units[rows], units, 10, exclude=rows)
    shares = []
    for start in range(0, 100, 50):
        answer = indexer.search(name, vectors[rows[start : start + 50]], 11)
        assert not answer.exact
        assert answer.search_k >= report.chosen.search_k
        for place, hits in enumerate(answer.hits, start):
            found = {int(answer.items[each].id[1:]) for each in hits.item_indices} - {int(rows[place])}
            shares.append(len(found & set(truth.indices[place].tolist())) / 10)
    assert np.mean(shares) == pytest.approx(report.chosen.recall_at_10, abs=0.05)
    assert indexer.search(name, vectors[:1], exact=True).exact
    assert indexer.search(name, vectors[:1], search_k=77).search_k == 77


@pytest.mark.parametrize("batch", [False, True])
def test_a_build_reports_its_plan_and_searches_go_by_it(indexer: Indexer, batch: bool) -> None:
    name, count = fresh(indexer, dim=256), 3000
    # Few directions carry most, as in embeddings.
    vectors = clustered(count, 256) * (np.arange(1, 257) ** -0.7).astype(np.float32)
    indexer.upsert(name, numbered(count), vectors)
    report = indexer.build(name).report
    assert [(entry.k, entry.batch) for entry in report.plan] == [(k, each) for k in (1, 10, 100, 1000) for each in (False, True)]
    assert all(entry.recall_low >= 0.95 for entry in report.plan)
    assert all((entry.source == builds_pb2.SOURCE_EXACT) == (entry.reduced_dim == entry.depth == 0) for entry in report.plan)
    assert (report.engine == collections_pb2.ENGINE_EXACT) == all(entry.source == builds_pb2.SOURCE_EXACT for entry in report.plan)
    units = normalise(vectors)
    rows = np.arange(0, 960, 30)
    for entry in report.plan:
        if entry.batch != batch:
            continue
        truth = exact_topk(units[rows], units, entry.k)
        shares = []
        for chosen in np.split(np.arange(32), 1 if batch else 32):
            answer = indexer.search(name, vectors[rows[chosen]], entry.k)
            assert (answer.source, answer.exact) == (entry.source, entry.source == builds_pb2.SOURCE_EXACT)
            assert answer.plan == entry
            for place, hits in zip(chosen, answer.hits, strict=True):
                found = {int(answer.items[each].id[1:]) for each in hits.item_indices}
                shares.append(len(found & set(truth.indices[place].tolist())) / entry.k)
        assert np.mean(shares) >= 0.9
    assert indexer.search(name, vectors[:1], exact=True).source == builds_pb2.SOURCE_EXACT


def test_a_small_collection_is_exact_unless_the_engine_is_forced(indexer: Indexer) -> None:
    name, vectors = fresh(indexer), clustered(300, 8)
    indexer.upsert(name, numbered(300), vectors)
    small = indexer.build(name).report
    assert (small.engine, small.trees, small.HasField("chosen")) == (collections_pb2.ENGINE_EXACT, 0, False)
    assert "fewer than 1,000" in small.reason
    assert not small.plan
    forced = indexer.build(name, force_engine=True).report
    assert (forced.engine, forced.reduced_dim) == (collections_pb2.ENGINE_ANNOY, 8)
    assert forced.trees in {12, 25, 50, 100}
    assert {entry.trees for entry in forced.measured if entry.source == builds_pb2.SOURCE_ANNOY} == {12, 25, 50, 100}
    assert forced.HasField("chosen")
    assert {entry.source for entry in forced.plan} == {builds_pb2.SOURCE_ANNOY}
    answer = indexer.search(name, vectors[:1])
    assert (answer.exact, answer.source) == (False, builds_pb2.SOURCE_ANNOY)


def test_a_target_that_is_missed_makes_the_build_exact_unless_the_engine_is_forced(indexer: Indexer) -> None:
    name = fresh(indexer, dim=64, recall_target=0.999)
    vectors = np.random.default_rng(5).standard_normal((1000, 64)).astype(np.float32)
    indexer.upsert(name, numbered(1000), vectors)
    missed = indexer.build(name, trees=1, reduced_dim=2).report
    assert missed.engine == collections_pb2.ENGINE_EXACT
    tried = [entry for entry in missed.measured if (entry.source, entry.k) == (builds_pb2.SOURCE_ANNOY, 10)]
    assert len(tried) >= 3
    assert all(entry.recall_low < 0.999 for entry in tried)
    (listed,) = indexer.builds.ListBuilds(builds_pb2.ListBuildsRequest(parent=name)).builds
    assert listed.report.plan
    assert not listed.report.measured
    assert "misses the target of 0.999" in missed.reason
    assert indexer.search(name, vectors[:1]).exact
    forced = indexer.build(name, trees=1, reduced_dim=2, force_engine=True).report
    assert forced.engine == collections_pb2.ENGINE_ANNOY
    assert "forced" in forced.reason
    assert forced.chosen.recall_at_10_low == max(point.recall_at_10_low for point in forced.curve)
    assert not indexer.search(name, vectors[:1]).exact


def test_a_graph_answers_where_it_is_the_engine(indexer: Indexer) -> None:
    name, vectors = fresh(indexer, dim=32, engine=collections_pb2.ENGINE_HNSW), clustered(1200, 32)
    indexer.upsert(name, numbered(1200), vectors)
    assert indexer.search(name, vectors[:1]).exact
    report = indexer.build(name, force_engine=True).report
    assert report.engine == collections_pb2.ENGINE_HNSW
    assert {(entry.source, entry.trees) for entry in report.plan} == {(builds_pb2.SOURCE_HNSW, 0)}
    assert all(entry.links and entry.recall_low >= 0.9 for entry in report.plan)
    answer = indexer.search(name, vectors[:1])
    assert (answer.source, answer.search_k, answer.exact) == (builds_pb2.SOURCE_HNSW, 0, False)
    assert answer.plan in list(report.plan)
    exact = indexer.search(name, vectors[:40], exact=True)
    assert not exact.HasField("plan")
    found = [{exact.items[each].id for each in hits.item_indices} for hits in exact.hits]
    shares = [len(set(ids) & truth) / 10 for ids, truth in zip(indexer.found(name, vectors[:40]), found, strict=True)]
    assert np.mean(shares) >= 0.9
    indexer.delete(name, numbered(5))
    assert not set(indexer.found(name, vectors[:1], 200)[0]) & set(numbered(5))


def test_a_search_may_ask_for_a_recall(indexer: Indexer) -> None:
    name, vectors = fresh(indexer, dim=32), clustered(1200, 32)
    indexer.upsert(name, numbered(1200), vectors)
    report = indexer.build(name, force_engine=True, trees=20, reduced_dim=16).report
    answer = indexer.search(name, vectors[:1], recall=0.8)
    assert answer.plan in list(report.measured)
    assert answer.plan.recall_low >= 0.8
    assert indexer.search(name, vectors[:1], recall=0.99999).exact


def test_an_exact_collection_has_exact_builds(indexer: Indexer) -> None:
    name = fresh(indexer, engine=collections_pb2.ENGINE_EXACT)
    indexer.upsert(name, numbered(20), clustered(20, 8))
    report = indexer.build(name, force_engine=True).report
    assert (report.engine, report.reason) == (collections_pb2.ENGINE_EXACT, "the collection's engine is exact")


def test_a_build_augments_as_it_is_told_else_as_the_collection_says_and_scores_say_so(indexer: Indexer) -> None:
    name = fresh(indexer, dba=dba_pb2.DbaSpec(k=2, weights=dba_pb2.DBA_WEIGHTS_EQUAL))
    vectors = clustered(60, 8)
    indexer.upsert(name, numbered(60), vectors)
    units = normalise(vectors)
    for told, k, weights in ((None, 2, "equal"), (3, 3, "linear"), (0, 0, "linear")):
        report = indexer.build(name, dba=told).report
        assert report.dba.k == k
        served = augment(units, k, weights)  # type: ignore[arg-type]
        answer = indexer.search(name, vectors[:1], 60)
        scores = {answer.items[place].id: score for place, score in zip(answer.hits[0].item_indices, answer.hits[0].scores, strict=True)}
        np.testing.assert_allclose([scores[each] for each in numbered(60)], served @ units[0], atol=1e-5)


def test_searches_see_writes_and_deletions_while_a_build_runs_and_after_it(indexer: Indexer) -> None:
    name, vectors = fresh(indexer, dim=32), clustered(3000, 32)
    indexer.upsert(name, numbered(3000), vectors)
    begun = long_build(indexer, name)
    new = np.random.default_rng(9).standard_normal((3, 32)).astype(np.float32)
    indexer.upsert(name, ["new", "i00001"], new[:2])
    indexer.delete(name, ["i00002"])
    assert get(indexer, begun.name).state == operations_pb2.STATE_RUNNING

    def check() -> None:
        assert indexer.found(name, new[:2], 1) == [["new"], ["i00001"]]
        for exact in ({}, {"exact": True}):
            hits = indexer.found(name, vectors[1:3], 1000, **exact)
            assert "i00002" not in {*hits[0], *hits[1]}
            # The replaced item is found by its new vector, not by its old one.
            assert hits[0][0] != "i00001"

    check()
    watch(indexer, begun.name)
    assert get(indexer, begun.name).active
    check()
    assert collection(indexer, name).fresh_item_count == 2
    assert collection(indexer, name).item_count == 3000
    hits = indexer.search(name, new[:1], 2).hits[0]
    assert list(hits.fresh) == [True, False]


def test_an_earlier_build_answers_again_with_all_later_writes_and_deletions(indexer: Indexer, refused: Refuse) -> None:
    name, vectors = fresh(indexer, dim=16), clustered(200, 16)
    ids = numbered(200)
    indexer.upsert(name, ids[:150], vectors[:150])
    first = indexer.build(name, force_engine=True)
    indexer.delete(name, ids[:20])
    indexer.upsert(name, ids[150:], vectors[150:])
    second = indexer.build(name, force_engine=True)
    indexer.delete(name, ids[20:30])
    assert not get(indexer, first.name).active
    assert activate(indexer, first.name).active
    assert collection(indexer, name).active_build == first.name
    for options in ({}, {"exact": True}):
        found = indexer.found(name, vectors[:1], 1000, **options)[0]
        assert sorted(found) == ids[30:]
    assert indexer.found(name, vectors[160:161], 1) == [[ids[160]]]
    activate(indexer, second.name)
    assert sorted(indexer.found(name, vectors[:1], 1000)[0]) == ids[30:]
    third = indexer.build(name, force_engine=True)
    told = refused(lambda: activate(indexer, first.name))
    assert (told.code, told.reason) == (Code.FAILED_PRECONDITION, "BUILD_NOT_KEPT")
    uid = collection(indexer, name).uid
    kept = sorted(path.name for path in (indexer.data / "indexer" / "collections" / uid / "builds").iterdir())
    assert kept == [name.rpartition("/")[2] for name in (second.name, third.name)]


def test_a_build_is_found_again_by_its_request_id(indexer: Indexer, refused: Refuse) -> None:
    name = fresh(indexer)
    spec = builds_pb2.BuildSpec(dba=dba_pb2.DbaSpec(k=1))
    request = builds_pb2.CreateBuildRequest(collection=name, spec=spec, request_id="once")
    told = refused(lambda: indexer.builds.CreateBuild(request))
    assert (told.code, told.reason) == (Code.FAILED_PRECONDITION, "COLLECTION_EMPTY")
    indexer.upsert(name, ["a"], np.ones((1, 8), np.float32))
    first = indexer.builds.CreateBuild(request)
    assert indexer.builds.CreateBuild(request).name == first.name
    watch(indexer, first.name)
    indexer.delete(name, ["a"])
    assert indexer.builds.CreateBuild(request).state == operations_pb2.STATE_SUCCEEDED
    request.spec.dba.k = 2
    told = refused(lambda: indexer.builds.CreateBuild(request))
    assert (told.code, told.reason) == (Code.ALREADY_EXISTS, "REQUEST_ID_REUSED")


def test_events_are_numbered_without_gaps_and_a_watcher_resumes_where_it_left(indexer: Indexer) -> None:
    name = fresh(indexer)
    indexer.upsert(name, numbered(50), clustered(50, 8))
    build = indexer.build(name, force_engine=True)
    events = watch(indexer, build.name)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.state for event in events[:2]] == [operations_pb2.STATE_PENDING, operations_pb2.STATE_RUNNING]
    assert events[-1].state == operations_pb2.STATE_SUCCEEDED
    assert all(event.state == operations_pb2.STATE_RUNNING for event in events[1:-1])
    assert {event.progress.stage for event in events} >= {"snapshot", "index", "measure"}
    assert events[-1].metrics["recall_at_10"] == build.report.chosen.recall_at_10
    assert all(a.time.ToMicroseconds() <= b.time.ToMicroseconds() for a, b in pairwise(events))
    for after in (0, 2, len(events) - 1, len(events)):
        assert watch(indexer, build.name, after) == events[after:]


def test_a_cancelled_build_leaves_nothing_and_the_next_may_begin(indexer: Indexer, refused: Refuse) -> None:
    name, vectors = fresh(indexer, dim=32), clustered(3000, 32)
    indexer.upsert(name, numbered(3000), vectors)
    begun = long_build(indexer, name)
    told = refused(lambda: indexer.begin(name))
    assert (told.code, told.reason) == (Code.FAILED_PRECONDITION, "BUILD_RUNNING")
    other = fresh(indexer)
    indexer.upsert(other, ["a"], np.ones((1, 8), np.float32))
    waiting = indexer.begin(other)
    assert waiting.state == operations_pb2.STATE_PENDING
    cancel = indexer.builds.CancelBuild
    assert cancel(builds_pb2.CancelBuildRequest(name=waiting.name)).state == operations_pb2.STATE_CANCELLED
    assert cancel(builds_pb2.CancelBuildRequest(name=begun.name)).state == operations_pb2.STATE_CANCELLED
    assert cancel(builds_pb2.CancelBuildRequest(name=begun.name)).state == operations_pb2.STATE_CANCELLED
    assert watch(indexer, begun.name)[-1].state == operations_pb2.STATE_CANCELLED
    uid = collection(indexer, name).uid
    assert list((indexer.data / "indexer" / "collections" / uid / "builds").iterdir()) == []
    assert collection(indexer, name).active_build == ""
    assert refused(lambda: activate(indexer, begun.name)).reason == "BUILD_NOT_KEPT"
    assert indexer.build(other).state == operations_pb2.STATE_SUCCEEDED


def test_a_collection_is_deleted_from_under_its_build(indexer: Indexer) -> None:
    name = fresh(indexer, dim=32)
    indexer.upsert(name, numbered(3000), clustered(3000, 32))
    long_build(indexer, name)
    uid = collection(indexer, name).uid
    indexer.collections.DeleteCollection(collections_pb2.DeleteCollectionRequest(name=name))
    assert not (indexer.data / "indexer" / "collections" / uid).exists()


def test_builds_are_listed_newest_first_in_pages(indexer: Indexer, refused: Refuse) -> None:
    name = fresh(indexer)
    indexer.upsert(name, ["a"], np.ones((1, 8), np.float32))
    made = [indexer.build(name).name for _ in range(3)]
    page = indexer.builds.ListBuilds(builds_pb2.ListBuildsRequest(parent=name, page_size=2))
    rest = indexer.builds.ListBuilds(builds_pb2.ListBuildsRequest(parent=name, page_size=2, page_token=page.next_page_token))
    assert [build.name for build in [*page.builds, *rest.builds]] == made[::-1]
    assert rest.next_page_token == ""
    assert (
        refused(lambda: indexer.builds.ListBuilds(builds_pb2.ListBuildsRequest(parent=name, page_token="!"))).code == Code.INVALID_ARGUMENT
    )


def test_what_is_wrong_with_a_build_request_is_named(indexer: Indexer, name: str, refused: Refuse) -> None:
    def create(request_id: str = "x", **spec: Any) -> builds_pb2.Build:
        request = builds_pb2.CreateBuildRequest(collection=name, spec=builds_pb2.BuildSpec(**spec), request_id=request_id)
        return indexer.builds.CreateBuild(request)

    assert refused(lambda: create("")).fields == ["request_id"]
    assert refused(lambda: create("x" * 129)).fields == ["request_id"]
    assert refused(lambda: create(trees=1001)).fields == ["spec.trees"]
    assert refused(lambda: create(reduced_dim=1)).fields == ["spec.reduced_dim"]
    assert refused(lambda: create(reduced_dim=16385)).fields == ["spec.reduced_dim"]
    assert refused(lambda: create(dba=dba_pb2.DbaSpec(k=101))).fields == ["spec.dba.k"]
    for missing in (f"{name}/builds/1", "collections/nobody/builds/1"):
        assert refused(lambda missing=missing: get(indexer, missing)).reason == "BUILD_NOT_FOUND"  # type: ignore[misc]
        assert refused(lambda missing=missing: watch(indexer, missing)).reason == "BUILD_NOT_FOUND"  # type: ignore[misc]
        assert refused(lambda missing=missing: activate(indexer, missing)).reason == "BUILD_NOT_FOUND"  # type: ignore[misc]
    assert refused(lambda: get(indexer, f"{name}/builds/0")).fields == ["name"]
    assert refused(lambda: get(indexer, f"{name}/builds/../1")).fields == ["name"]
    assert refused(lambda: watch(indexer, f"{name}/builds/1", -1)).fields == ["after_sequence"]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 12])
def test_a_forced_engine_copes_with_few_items(indexer: Indexer, count: int) -> None:
    name, vectors = fresh(indexer), clustered(20, 8)[:count]
    indexer.upsert(name, numbered(count), vectors)
    assert indexer.build(name, force_engine=True, dba=3).state == operations_pb2.STATE_SUCCEEDED
    assert sorted(indexer.found(name, vectors[:1], 20)[0]) == numbered(count)


def test_a_forced_engine_copes_with_items_that_are_all_alike(indexer: Indexer) -> None:
    name = fresh(indexer)
    indexer.upsert(name, numbered(100), np.ones((100, 8), np.float32))
    build = indexer.build(name, force_engine=True, reduced_dim=4)
    assert build.state == operations_pb2.STATE_SUCCEEDED
    assert build.report.reduced_dim == 8
    assert len(indexer.found(name, np.ones((1, 8), np.float32), 100)[0]) == 100
