from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import psutil
import pytest

from lookalike_protos.indexer.v1 import builds_pb2, collections_pb2, items_pb2
from lookalike_protos.packing import unpack_vectors
from lookalike_protos.types.v1 import operations_pb2

if TYPE_CHECKING:
    from tests.contract.indexer.conftest import Indexer, Refused

Start = Callable[..., "Indexer"]
Refuse = Callable[[Callable[[], Any]], "Refused"]
CHUNK = 7


class Writer:
    """Upserts chunk after chunk and deletes now and then, remembering what was acknowledged and what was only asked for."""

    def __init__(self, server: Indexer, name: str, seed: int) -> None:
        self.server, self.name = server, name
        self.random, self.rng = random.Random(seed), np.random.default_rng(seed)
        self.kept: dict[str, bytes] = {}
        self.in_flight: dict[str, bytes | None] = {}
        self.acknowledged = 0
        self.thread = threading.Thread(target=self._write)
        self.thread.start()

    def _write(self) -> None:
        requests: SimpleQueue[items_pb2.UpsertItemsRequest] = SimpleQueue()
        requests.put(items_pb2.UpsertItemsRequest(collection=self.name))
        answers = self.server.items.UpsertItems(requests.get() for _ in itertools.count())
        with suppress(grpc.RpcError):
            while True:
                for _ in range(5):
                    self._upsert(requests, answers)
                self._delete()
        # Ends the thread that reads the requests.
        requests.put(items_pb2.UpsertItemsRequest())

    def _upsert(self, requests: SimpleQueue[items_pb2.UpsertItemsRequest], answers: Iterator[items_pb2.UpsertItemsResponse]) -> None:
        ids = [f"{self.random.randrange(200):03d}-{place}" for place in range(CHUNK)]
        vectors = self.rng.standard_normal((CHUNK, 8)).astype(np.float32)
        written = {each: vector.tobytes() for each, vector in zip(ids, vectors, strict=True)}
        self.in_flight = dict(written)
        requests.put(self.server.chunk(ids, vectors))
        next(answers)
        self.kept |= written
        self.in_flight = {}
        self.acknowledged += 1

    def _delete(self) -> None:
        ids = self.random.sample(sorted(self.kept), 3)
        self.in_flight = dict.fromkeys(ids)
        self.server.delete(self.name, ids)
        for each in ids:
            del self.kept[each]
        self.in_flight = {}


def stored(server: Indexer, name: str) -> dict[str, bytes]:
    items: dict[str, bytes] = {}
    request = items_pb2.ListItemsRequest(collection=name, page_size=1000, view=items_pb2.ITEM_VIEW_VECTOR)
    while True:
        page = server.items.ListItems(request)
        vectors = unpack_vectors(page.vectors)
        items |= {item.id: vector.tobytes() for item, vector in zip(page.items, vectors, strict=True)}
        request.page_token = page.next_page_token
        if not request.page_token:
            return items


def test_acknowledged_writes_survive_kill_9_and_refused_ones_do_not_appear(start: Start) -> None:
    name = "collections/c"
    acknowledged = 0
    kept: dict[str, bytes] = {}
    for seed in range(4):
        server = start()
        if seed == 0:
            server.create("c")
        writer = Writer(server, name, seed)
        writer.kept = dict(kept)
        time.sleep(0.5 + writer.random.random() / 2)
        server.kill()
        writer.thread.join()
        acknowledged += writer.acknowledged
        again = start()
        found = stored(again, name)
        doubtful = writer.in_flight
        assert {each: vector for each, vector in found.items() if each not in doubtful} == {
            each: vector for each, vector in writer.kept.items() if each not in doubtful
        }
        # What was under way happened or did not; nothing else may be there instead.
        for each, vector in doubtful.items():
            assert found.get(each) in (vector, writer.kept.get(each))
        for each in list(found)[:5]:
            assert again.found(name, np.frombuffer(found[each], np.float32)[None], 1) == [[each]]
        kept = found
        again.kill()
    assert acknowledged > 100


def test_a_build_that_the_servers_death_interrupted_has_failed_and_the_one_before_serves(start: Start, rng: np.random.Generator) -> None:
    server = start()
    name, vectors = server.create("c", dim=32), rng.standard_normal((3000, 32)).astype(np.float32)
    ids = [f"i{n:04d}" for n in range(3000)]
    server.upsert(name, ids, vectors)
    first = server.build(name, force_engine=True, trees=5)
    server.delete(name, ids[:1])
    second = server.begin(name, force_engine=True, trees=1000)
    for event in server.builds.WatchBuild(builds_pb2.WatchBuildRequest(name=second.name)):
        if event.progress.stage == "index":
            break
    server.kill()
    again = start()
    failed = again.builds.GetBuild(builds_pb2.GetBuildRequest(name=second.name))
    assert failed.state == operations_pb2.STATE_FAILED
    assert failed.error.code == grpc.StatusCode.ABORTED.value[0]
    assert "the server ended while the build was under way" in failed.error.message
    assert list(again.builds.WatchBuild(builds_pb2.WatchBuildRequest(name=second.name)))[-1].error == failed.error
    collection = again.collections.GetCollection(collections_pb2.GetCollectionRequest(name=name))
    assert (collection.active_build, collection.item_count, collection.fresh_item_count) == (first.name, 2999, 0)
    folder = again.data / "indexer" / "collections" / collection.uid / "builds"
    assert [path.name for path in folder.iterdir()] == ["1"]
    answer = again.search(name, vectors[:1], 5)
    assert (answer.exact, answer.build) == (False, first.name)
    assert again.found(name, vectors[:2], 1) != [["i0000"], ["i0001"]]
    assert again.build(name).state == operations_pb2.STATE_SUCCEEDED


def builder_of(server: Indexer) -> psutil.Process:
    (child,) = psutil.Process(server.process.pid).children()
    return child


def begin_long_build(server: Indexer, rng: np.random.Generator) -> builds_pb2.Build:
    name = server.create("c", dim=32)
    server.upsert(name, [f"i{n:04d}" for n in range(3000)], rng.standard_normal((3000, 32)).astype(np.float32))
    build = server.begin(name, force_engine=True, trees=1000)
    for event in server.builds.WatchBuild(builds_pb2.WatchBuildRequest(name=build.name)):
        if event.progress.stage == "index":
            break
    return build


def test_the_process_of_a_build_has_low_priority_and_ends_with_its_server(start: Start, rng: np.random.Generator) -> None:
    server = start()
    begin_long_build(server, rng)
    child = builder_of(server)
    assert child.nice() >= 10
    server.kill()
    child.wait(10)


def test_a_build_whose_process_dies_has_failed_and_leaves_nothing(start: Start, rng: np.random.Generator) -> None:
    server = start()
    build = begin_long_build(server, rng)
    builder_of(server).kill()
    last = list(server.builds.WatchBuild(builds_pb2.WatchBuildRequest(name=build.name)))[-1]
    assert last.state == operations_pb2.STATE_FAILED
    assert "status -9" in last.error.message
    (folder,) = (server.data / "indexer" / "collections").iterdir()
    assert list((folder / "builds").iterdir()) == []
    assert server.build("collections/c").state == operations_pb2.STATE_SUCCEEDED


def test_a_build_that_waits_is_made_by_the_next_server(start: Start, rng: np.random.Generator) -> None:
    server = start()
    busy, waits = server.create("busy", dim=32), server.create("waits")
    server.upsert(busy, [f"i{n:04d}" for n in range(3000)], rng.standard_normal((3000, 32)).astype(np.float32))
    server.upsert(waits, ["a"], np.ones((1, 8), np.float32))
    server.begin(busy, force_engine=True, trees=1000)
    waiting = server.begin(waits)
    assert server.stop() == 0
    again = start()
    events = list(again.builds.WatchBuild(builds_pb2.WatchBuildRequest(name=waiting.name)))
    assert events[-1].state == operations_pb2.STATE_SUCCEEDED


def test_debris_is_swept_at_the_start(start: Start) -> None:
    server = start()
    name = server.create("c")
    server.upsert(name, ["a"], np.ones((1, 8), np.float32))
    server.build(name)
    uid = server.collections.GetCollection(collections_pb2.GetCollectionRequest(name=name)).uid
    server.kill()
    collections = server.data / "indexer" / "collections"
    for debris in (collections / ("f" * 32), collections / uid / "builds" / "2.partial", collections / uid / "builds" / "7"):
        debris.mkdir()
        (debris / "file").write_text("left behind")
    again = start()
    assert [path.name for path in collections.iterdir()] == [uid]
    assert [path.name for path in (collections / uid / "builds").iterdir()] == ["1"]
    assert again.ids(name) == ["a"]


@pytest.mark.parametrize("file", ["vectors.f32", "trees-4-9.ann", "projection.npy", "ids.json", "manifest.json"])
def test_a_damaged_build_is_noticed_and_searched_around(start: Start, rng: np.random.Generator, file: str) -> None:
    server = start()
    name, vectors = server.create("c"), rng.standard_normal((100, 8)).astype(np.float32)
    server.upsert(name, [f"i{n:02d}" for n in range(100)], vectors)
    build = server.build(name, force_engine=True, reduced_dim=4, trees=9)
    uid = server.collections.GetCollection(collections_pb2.GetCollectionRequest(name=name)).uid
    server.kill()
    path = server.data / "indexer" / "collections" / uid / "builds" / "1" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    again = start()
    answer = again.search(name, vectors[:1], 1)
    assert (answer.exact, answer.build, answer.items[0].id) == (True, "", "i00")
    collection = again.collections.GetCollection(collections_pb2.GetCollectionRequest(name=name))
    assert (collection.active_build, collection.fresh_item_count) == ("", 100)
    assert again.builds.GetBuild(builds_pb2.GetBuildRequest(name=build.name)).state == operations_pb2.STATE_SUCCEEDED
    assert again.build(name, force_engine=True).active


def test_a_second_server_on_the_folder_does_not_start(start: Start) -> None:
    start()
    with pytest.raises(AssertionError, match="in use by another server"):
        start()
