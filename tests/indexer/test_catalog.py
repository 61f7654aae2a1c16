from __future__ import annotations

import pytest

from lookalike_indexer.build_log import BuildLog
from lookalike_indexer.catalog import Catalog
from lookalike_indexer.collections import Collections
from lookalike_indexer.database import Database
from lookalike_indexer.records import BuildReport, BuildSpec, Collection, Dba, Failure, Progress
from lookalike_runtime.errors import FailedPrecondition, NotFound, ResourceExhausted, ServiceError


def report(number: int) -> BuildReport:
    return BuildReport(engine="exact", reason="small", revision=number, item_count=1, dba=Dba(), recall_target=0.95)


def finish(builds: BuildLog, uid: str, *, purge: bool = False) -> set[int]:
    build, _ = builds.add(uid, BuildSpec(purge=purge), f"r{len(builds.page(uid, None, 100))}")
    return end(builds, uid, build.number)


def finish_automatic(catalog: Catalog, builds: BuildLog, uid: str) -> set[int]:
    seen = catalog.by_uid(uid)
    assert seen is not None
    return end(builds, uid, builds.add_automatic(seen, BuildSpec()).number)


def end(builds: BuildLog, uid: str, number: int) -> set[int]:
    assert builds.start(uid, number)
    return builds.install(uid, number, report(number)).dropped


def test_there_may_be_no_more_collections_than_the_limit(database: Database, record: Collection) -> None:
    catalog = Catalog(database, most_collections=2)
    for name in ("a", "b"):
        catalog.add(record.model_copy(update={"uid": name, "name": name}))
    with pytest.raises(ResourceExhausted) as error:
        catalog.add(record.model_copy(update={"uid": "c", "name": "c"}))
    assert error.value.reason == "TOO_MANY_COLLECTIONS"


def test_a_deleted_collection_takes_its_builds_and_events_along(catalog: Catalog, builds: BuildLog, record: Collection) -> None:
    catalog.add(record)
    finish(builds, record.uid)
    catalog.remove(record)
    assert catalog.by_uid(record.uid) is None
    with pytest.raises(NotFound):
        builds.get(record.uid, 1)
    assert builds.page(record.uid, None, 10) == []


def test_a_collection_made_anew_is_not_the_one_that_was_to_be_removed(catalog: Catalog, record: Collection) -> None:
    catalog.add(record.model_copy(update={"uid": "new"}))
    with pytest.raises(NotFound):
        catalog.remove(record)
    assert catalog.find(record.name).uid == "new"


def test_the_last_two_builds_are_kept(catalog: Catalog, builds: BuildLog, record: Collection) -> None:
    catalog.add(record)
    assert [finish(builds, record.uid) for _ in range(4)] == [set(), set(), {1}, {2}]
    assert builds.kept(record.uid) == {3, 4}
    assert catalog.find(record.name).active_build == 4
    builds.activate(record.uid, 3)
    assert catalog.find(record.name).active_build == 3
    with pytest.raises(FailedPrecondition) as error:
        builds.activate(record.uid, 2)
    assert error.value.reason == "BUILD_NOT_KEPT"


@pytest.mark.parametrize("kept", [1, 3])
def test_as_many_builds_are_kept_as_the_setting_says(database: Database, catalog: Catalog, record: Collection, kept: int) -> None:
    builds = BuildLog(database, kept)
    catalog.add(record)
    for _ in range(5):
        finish(builds, record.uid)
    assert builds.kept(record.uid) == set(range(6 - kept, 6))
    with pytest.raises(FailedPrecondition, match=f"the last {kept} are kept"):
        builds.activate(record.uid, 1)


def test_a_call_pins_and_neither_an_automatic_build_nor_keeping_the_last_replaces_that(
    catalog: Catalog, builds: BuildLog, record: Collection
) -> None:
    catalog.add(record)
    for _ in range(2):
        finish(builds, record.uid)
    builds.activate(record.uid, 1)
    assert catalog.find(record.name).pinned
    assert [finish_automatic(catalog, builds, record.uid) for _ in range(3)] == [set(), {2}, {3}]
    assert (catalog.find(record.name).active_build, builds.kept(record.uid)) == (1, {1, 4, 5})
    # Whoever asks for a build wants it to serve.
    assert finish(builds, record.uid) == {1, 4}
    assert (catalog.find(record.name).active_build, catalog.find(record.name).pinned) == (6, False)
    assert finish_automatic(catalog, builds, record.uid) == {5}
    assert catalog.find(record.name).active_build == 7


@pytest.mark.parametrize("meanwhile", ["a build has come to answer", "its build was pinned", "it was deleted", "a build is under way"])
def test_no_build_begins_by_itself_where_the_collection_has_changed_since_it_was_looked_at(
    catalog: Catalog, builds: BuildLog, record: Collection, meanwhile: str
) -> None:
    catalog.add(record)
    finish(builds, record.uid)
    seen = catalog.find(record.name)
    refusal: type[ServiceError] = FailedPrecondition
    match meanwhile:
        case "a build has come to answer":
            finish(builds, record.uid)
        case "its build was pinned":
            builds.activate(record.uid, 1)
        case "it was deleted":
            catalog.remove(record)
            refusal = NotFound
        case _:
            builds.add(record.uid, BuildSpec(), "asked")
    there = builds.page(record.uid, None, 10)
    with pytest.raises(refusal):
        builds.add_automatic(seen, BuildSpec())
    assert builds.page(record.uid, None, 10) == there


def test_a_build_that_is_asked_for_unpins_even_if_it_comes_to_nothing(catalog: Catalog, builds: BuildLog, record: Collection) -> None:
    catalog.add(record)
    finish(builds, record.uid)
    builds.activate(record.uid, 1)
    builds.add(record.uid, BuildSpec(), "asked")
    assert not catalog.find(record.name).pinned
    builds.cancel(record.uid, 2)
    assert catalog.find(record.name).active_build == 1


def test_a_build_that_purges_serves_alone_and_has_succeeded_when_that_is_done(
    catalog: Catalog, builds: BuildLog, record: Collection
) -> None:
    catalog.add(record)
    for _ in range(2):
        finish(builds, record.uid)
    builds.activate(record.uid, 1)
    assert finish(builds, record.uid, purge=True) == {1, 2}
    build = builds.get(record.uid, 3)
    assert (build.state, build.kept, catalog.find(record.name).active_build) == ("RUNNING", True, 3)
    assert [(uid, each.number) for uid, each in builds.under_way()] == [(record.uid, 3)]
    assert builds.succeed(record.uid, 3).state == "SUCCEEDED"
    assert builds.events(record.uid, 3, 0)[0][-1].metrics["items"] == 1


def test_a_build_that_has_ended_stays_as_it_is(catalog: Catalog, builds: BuildLog, record: Collection) -> None:
    catalog.add(record)
    finish(builds, record.uid)
    events, ended = builds.events(record.uid, 1, 0)
    assert ended
    assert builds.cancel(record.uid, 1).state == "SUCCEEDED"
    assert builds.fail(record.uid, 1, Failure(code="UNKNOWN", reason="X", message="x")).state == "SUCCEEDED"
    assert builds.events(record.uid, 1, 0)[0] == events
    assert not builds.start(record.uid, 1)


def test_what_has_not_ended_is_found_again(catalog: Catalog, builds: BuildLog, record: Collection) -> None:
    catalog.add(record)
    finish(builds, record.uid)
    build, new = builds.add(record.uid, BuildSpec(trees=3), "again")
    assert new
    builds.start(record.uid, build.number)
    builds.advance(record.uid, build.number, Progress(stage="index", done=1, total=2))
    ((uid, found),) = builds.under_way()
    assert (uid, found.number, found.state, found.progress) == (record.uid, 2, "RUNNING", Progress(stage="index", done=1, total=2))


def test_a_collection_that_cannot_be_kept_in_the_catalog_leaves_no_folder(
    tmp_path_factory: pytest.TempPathFactory, catalog: Catalog, builds: BuildLog, record: Collection
) -> None:
    root = tmp_path_factory.mktemp("data") / "collections"
    collections = Collections(root, catalog, builds)
    collections.create("one", record.space, "annoy", Dba(), 0.95, None)
    with pytest.raises(Exception, match="already"):
        collections.create("one", record.space, "annoy", Dba(), 0.95, None)
    assert len(list(root.iterdir())) == 1
    collections.close()
