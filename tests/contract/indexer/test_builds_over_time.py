"""Builds that begin by themselves, are pinned, kept, purge, and meet a server's death."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lookalike_protos.indexer.v1 import builds_pb2, collections_pb2, items_pb2
from lookalike_protos.types.v1 import operations_pb2
from lookalike_retrieval import normalise

if TYPE_CHECKING:
    from tests.contract.indexer.conftest import Indexer, Refused, Vectors

Refuse = Callable[[Callable[[], Any]], "Refused"]
Start = Callable[..., "Indexer"]
SUCCEEDED, RUNNING = operations_pb2.STATE_SUCCEEDED, operations_pb2.STATE_RUNNING
SHARE = {"auto_build_share": "0.1", "auto_build_seconds": "0.1", "exact_below": "100"}


def vectors_for(count: int) -> Vectors:
    return np.random.default_rng(count).standard_normal((count, 8)).astype(np.float32)


def numbered(start: int, end: int) -> list[str]:
    return [f"i{n:04d}" for n in range(start, end)]


def builds_of(server: Indexer, name: str) -> list[builds_pb2.Build]:
    """Newest first."""
    return list(server.builds.ListBuilds(builds_pb2.ListBuildsRequest(parent=name)).builds)


def until(met: Callable[[], Any]) -> Any:
    for _ in range(600):
        found = met()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come about")


def active(server: Indexer, name: str) -> str:
    return server.collections.GetCollection(collections_pb2.GetCollectionRequest(name=name)).active_build


def activate(server: Indexer, name: str) -> builds_pb2.Build:
    return server.builds.ActivateBuild(builds_pb2.ActivateBuildRequest(name=name))


def stays(server: Indexer, name: str, count: int) -> None:
    """See that no further build begins in many looks."""
    time.sleep(1)
    assert len(builds_of(server, name)) == count


def test_enough_changes_begin_a_build_and_few_do_not(start: Start) -> None:
    server = start(**SHARE)
    small, name = server.create("small"), server.create("c")
    server.upsert(small, numbered(0, 99), vectors_for(99))
    server.upsert(name, numbered(0, 200), vectors_for(200))
    first = until(lambda: [each for each in builds_of(server, name) if each.active])[0]
    assert (first.automatic, first.pinned, first.kept, first.report.item_count) == (True, False, True, 200)
    server.upsert(name, numbered(200, 210), vectors_for(10))
    server.delete(name, numbered(0, 10))
    stays(server, name, 1)
    assert builds_of(server, small) == []
    server.delete(name, numbered(10, 12))
    second = until(lambda: [each for each in builds_of(server, name)[:-1] if each.active])[0]
    assert (second.name, second.automatic, second.report.item_count) == (f"{name}/builds/2", True, 198)
    stays(server, name, 2)


def test_a_restarted_server_builds_what_became_due_before_and_0_means_never(start: Start) -> None:
    server = start()
    name = server.create("c")
    server.upsert(name, numbered(0, 200), vectors_for(200))
    stays(server, name, 0)
    assert server.stop() == 0
    again = start(**SHARE)
    until(lambda: active(again, name))
    assert again.stop() == 0


def test_a_pinned_build_stays_until_another_is_asked_for(start: Start) -> None:
    server = start(**SHARE, kept_builds="3")
    name = server.create("c")
    server.upsert(name, numbered(0, 90), vectors_for(90))
    first, second = server.build(name), server.build(name, force_engine=True)
    pinned = activate(server, first.name)
    assert (pinned.active, pinned.pinned, pinned.automatic) == (True, True, False)
    server.upsert(name, numbered(90, 200), vectors_for(110))
    stays(server, name, 2)
    assert active(server, name) == first.name
    third = server.build(name, force_engine=True, trees=7)
    assert (third.active, third.pinned) == (True, False)
    assert [each.kept for each in builds_of(server, name)] == [True, True, True]
    server.upsert(name, numbered(200, 300), vectors_for(100))
    fourth = until(lambda: [each for each in builds_of(server, name)[:1] if each.automatic and each.active])[0]
    # It is made as the one that it replaces was asked for.
    assert (fourth.spec.force_engine, fourth.spec.trees, fourth.report.trees) == (True, 7, 7)
    assert [(each.name, each.kept) for each in builds_of(server, name)][-2:] == [(second.name, True), (first.name, False)]


def test_an_automatic_build_makes_way_for_one_that_is_asked_for(start: Start) -> None:
    server = start(**SHARE)
    name = server.create("c")
    server.upsert(name, numbered(0, 200), vectors_for(200))
    until(lambda: builds_of(server, name))
    asked = server.build(name, trees=9, force_engine=True)
    assert (asked.state, asked.active, asked.automatic) == (SUCCEEDED, True, False)
    assert builds_of(server, name)[-1].automatic


def test_an_interrupted_automatic_build_leaves_nothing_and_is_made_again_after_a_while(start: Start) -> None:
    server = start(**SHARE)
    name = server.create("c")
    server.upsert(name, numbered(0, 200), vectors_for(200))
    until(lambda: [each for each in builds_of(server, name) if each.state == RUNNING])
    server.kill()
    again = start(**SHARE)
    (failed,) = builds_of(again, name)
    assert (failed.state, failed.automatic, failed.kept) == (operations_pb2.STATE_FAILED, True, False)
    (folder,) = (again.data / "indexer" / "collections").iterdir()
    until(lambda: active(again, name) == f"{name}/builds/2")
    waited = builds_of(again, name)[0].create_time.ToMicroseconds() - failed.end_time.ToMicroseconds()
    assert waited >= 1.2e6
    assert [path.name for path in (folder / "builds").iterdir()] == ["2"]


class Secret:
    """An item that is deleted, and the traces of it."""

    def __init__(self, server: Indexer, name: str) -> None:
        self.vector = vectors_for(1)
        self.traces = {
            "id": b"marker-of-the-id",
            "label": b"marker-of-the-label",
            "uri": b"marker-of-the-uri",
            "thumbnail": b"marker-of-the-thumbnail",
            "payload": b"marker-of-the-payload",
            "vector": self.vector.tobytes(),
            "unit vector": normalise(self.vector).tobytes(),
        }
        chunk = server.chunk([self.traces["id"].decode()], self.vector, uri=self.traces["uri"].decode())
        (item,) = chunk.chunk.items
        item.label, item.thumbnail = self.traces["label"].decode(), self.traces["thumbnail"]
        item.payload.update({"key": self.traces["payload"].decode()})
        list(server.items.UpsertItems(iter([items_pb2.UpsertItemsRequest(collection=name), chunk])))

    def found_in(self, folder: Path) -> set[str]:
        contents = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
        assert len(contents) > 5
        return {what for what, trace in self.traces.items() if any(trace in content for content in contents)}


def test_a_purge_leaves_no_byte_of_a_deleted_item_anywhere(start: Start) -> None:
    server = start()
    name = server.create("c")
    server.upsert(name, numbered(0, 300), vectors_for(300), uri="x.png", thumbnail=b"t" * 3000)
    secret = Secret(server, name)
    assert server.build(name, force_engine=True).active
    server.delete(name, [secret.traces["id"].decode(), "i0000"])
    assert server.build(name, force_engine=True).active
    assert secret.found_in(server.data) == set(secret.traces)
    purged = server.build(name, force_engine=True, purge=True)
    assert (purged.state, purged.active, purged.spec.purge, purged.report.item_count) == (SUCCEEDED, True, True, 299)
    assert secret.found_in(server.data) == set()
    assert [each.kept for each in builds_of(server, name)] == [True, False, False]
    assert sorted(server.found(name, secret.vector, 1000)[0]) == numbered(1, 300)
    server.upsert(name, ["new"], vectors_for(2)[:1])
    server.kill()
    again = start()
    assert secret.found_in(again.data) == set()
    assert sorted(again.ids(name)) == [*numbered(1, 300), "new"]
    assert "i0000" not in again.found(name, secret.vector, 1000)[0]


def test_readers_go_on_during_a_purge_and_one_that_is_interrupted_goes_on_after_a_restart(start: Start, refused: Refuse) -> None:
    server = start()
    name = server.create("c")
    server.upsert(name, numbered(0, 50), vectors_for(50))
    secret = Secret(server, name)
    first = server.build(name)
    server.delete(name, [secret.traces["id"].decode()])
    (folder,) = (server.data / "indexer" / "collections").iterdir()
    # Whoever reads an older state keeps the log from being emptied.
    reader = sqlite3.connect(folder / "items.db")
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM item").fetchone() == (50,)
    build = server.begin(name, purge=True)
    until(lambda: builds_of(server, name)[0].progress.stage == "purge")
    for _ in range(3):
        assert len(server.found(name, secret.vector, 1000)[0]) == 50
        server.upsert(name, ["i0001"], vectors_for(2)[:1])
    running = builds_of(server, name)[0]
    assert (running.state, running.active, running.kept, running.HasField("report")) == (RUNNING, True, True, False)
    assert refused(lambda: activate(server, first.name)).reason == "BUILD_NOT_KEPT"
    assert refused(lambda: server.begin(name)).reason == "BUILD_RUNNING"
    server.kill()
    again = start()
    assert builds_of(again, name)[0].state == RUNNING
    reader.close()
    ended = until(lambda: [each for each in builds_of(again, name) if each.name == build.name and each.state == SUCCEEDED])[0]
    assert (ended.active, ended.report.item_count) == (True, 50)
    assert secret.found_in(again.data) == set()
    assert [path.name for path in (folder / "builds").iterdir()] == ["2"]
