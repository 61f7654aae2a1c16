from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from lookalike_protos.indexer.v1 import collections_pb2, snapshots_pb2, snapshots_pb2_grpc

if TYPE_CHECKING:
    from tests.contract.indexer.conftest import Indexer, Refused

Start = Callable[..., "Indexer"]
Refuse = Callable[[Callable[[], Any]], "Refused"]


@pytest.fixture
def archives(indexer: Indexer) -> snapshots_pb2_grpc.SnapshotServiceStub:
    return snapshots_pb2_grpc.SnapshotServiceStub(indexer.channel)


def _exported(archives: snapshots_pb2_grpc.SnapshotServiceStub, name: str) -> tuple[snapshots_pb2.ExportStart, bytes]:
    answers = list(archives.ExportCollection(snapshots_pb2.ExportCollectionRequest(collection=name)))
    assert answers[0].WhichOneof("message") == "start"
    assert max(len(each.data) for each in answers) < 2 << 20
    return answers[0].start, b"".join(each.data for each in answers)


def _requests(collection_id: str, archive: bytes, piece: int = 1 << 20) -> Iterator[snapshots_pb2.ImportCollectionRequest]:
    yield snapshots_pb2.ImportCollectionRequest(start=snapshots_pb2.ImportStart(collection_id=collection_id))
    for start in range(0, len(archive), piece):
        yield snapshots_pb2.ImportCollectionRequest(data=archive[start : start + piece])


def test_an_imported_collection_answers_as_the_exported_one_does(
    indexer: Indexer, archives: snapshots_pb2_grpc.SnapshotServiceStub, rng: np.random.Generator
) -> None:
    name = indexer.create(f"c{uuid.uuid4().hex[:12]}", dim=300)
    ids, vectors = [f"{number:04}" for number in range(2_500)], rng.standard_normal((2_500, 300)).astype(np.float32)
    indexer.upsert(name, ids, vectors, thumbnail=b"small", uri="a.png")
    start, archive = _exported(archives, name)
    assert (start.collection, start.item_count) == (name, 2_500)
    again = archives.ImportCollection(_requests("again-" + uuid.uuid4().hex[:8], archive))
    assert again.item_count == 2_500
    assert indexer.found(again.name, vectors[:5]) == indexer.found(name, vectors[:5])
    indexer.upsert(again.name, ["new"], vectors[:1] * 2)
    assert "new" in indexer.found(again.name, vectors[:1])[0]
    assert indexer.build(again.name).report.item_count == 2_501


def test_an_empty_collection_goes_out_and_in(indexer: Indexer, archives: snapshots_pb2_grpc.SnapshotServiceStub, name: str) -> None:
    _, archive = _exported(archives, name)
    assert archives.ImportCollection(_requests("empty-" + uuid.uuid4().hex[:8], archive)).item_count == 0


def test_a_damaged_archive_makes_no_collection(
    indexer: Indexer, archives: snapshots_pb2_grpc.SnapshotServiceStub, name: str, refused: Refuse, rng: np.random.Generator
) -> None:
    indexer.upsert(name, ["a", "b"], rng.standard_normal((2, 8)).astype(np.float32))
    _, archive = _exported(archives, name)
    told = refused(lambda: archives.ImportCollection(_requests("damaged", archive[:1_500])))
    assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "ARCHIVE_DAMAGED")
    told = refused(lambda: archives.ImportCollection(_requests("damaged", b"")))
    assert told.reason == "ARCHIVE_DAMAGED"
    told = refused(lambda: indexer.collections.GetCollection(collections_pb2.GetCollectionRequest(name="collections/damaged")))
    assert told.reason == "COLLECTION_NOT_FOUND"


def test_a_stream_that_is_no_import_is_refused(archives: snapshots_pb2_grpc.SnapshotServiceStub, name: str, refused: Refuse) -> None:
    message = snapshots_pb2.ImportCollectionRequest
    start = message(start=snapshots_pb2.ImportStart(collection_id="fine"))
    for requests, field in (
        ([], "message"),
        ([message(data=b"x")], "message"),
        ([start, start], "message"),
        ([start, message(data=b"")], "data"),
        ([start, message(data=bytes((2 << 20) + 1))], "data"),
        ([message(start=snapshots_pb2.ImportStart(collection_id="Not An Id"))], "start.collection_id"),
    ):
        told = refused(lambda requests=requests: archives.ImportCollection(iter(requests)))  # type: ignore[misc]
        assert told.fields == [field]
    taken = name.removeprefix("collections/")
    told = refused(lambda: archives.ImportCollection(_requests(taken, b"")))
    assert (told.code, told.reason) == (grpc.StatusCode.ALREADY_EXISTS, "NAME_TAKEN")


def test_nothing_is_left_of_an_import_that_breaks_off(start: Start, rng: np.random.Generator, tmp_path: Path) -> None:
    server = start()
    name = server.create("whole")
    server.upsert(name, [f"{number}" for number in range(900)], rng.standard_normal((900, 8)).astype(np.float32), uri="u" * 4_000)
    archives = snapshots_pb2_grpc.SnapshotServiceStub(server.channel)
    _, archive = _exported(archives, name)

    def breaking_off() -> Iterator[snapshots_pb2.ImportCollectionRequest]:
        yield from _requests("half", archive[: len(archive) // 2], 1 << 16)
        server.process.kill()

    with pytest.raises(grpc.RpcError):
        archives.ImportCollection(breaking_off())
    server.kill()
    again = start()
    assert [each.name for each in again.collections.ListCollections(collections_pb2.ListCollectionsRequest()).collections] == [name]
    assert list((tmp_path / "data" / "indexer" / "scratch").iterdir()) == []
    assert len(list((tmp_path / "data" / "indexer" / "collections").iterdir())) == 1
