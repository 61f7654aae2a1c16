from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty

from lookalike_protos.trainer.v1 import datasets_pb2 as pb
from lookalike_trainer.manifest import Entry, Manifest

from .conftest import Start
from .trainer_process import FAKE, Trainer, chunks_of, digest, entry, refused, train_job

INVALID = grpc.StatusCode.INVALID_ARGUMENT
SHOES = {"boots/1.jpg": b"one", "boots/2.jpg": b"two", "clogs/1.jpg": b"three"}


def missing(trainer: Trainer, *digests: str) -> list[str]:
    return list(trainer.datasets.FindMissingBlobs(pb.FindMissingBlobsRequest(sha256=digests)).missing_sha256)


def commit(trainer: Trainer, *requests: pb.CommitRevisionRequest) -> pb.DatasetRevision:
    revision: pb.DatasetRevision = trainer.datasets.CommitRevision(iter(requests))
    return revision


def get(trainer: Trainer, name: str) -> pb.DatasetRevision:
    revision: pb.DatasetRevision = trainer.datasets.GetRevision(pb.GetRevisionRequest(name=name))
    return revision


def test_a_dataset_is_pushed_and_looked_at(trainer: Trainer) -> None:
    before = time.time()
    revision = trainer.push("pushed", SHOES)
    assert get(trainer, "datasets/pushed") == get(trainer, "datasets/pushed/revisions/1") == revision
    assert revision.fingerprint == Manifest.of(Entry(p, p.split("/")[0], digest(c), len(c)) for p, c in SHOES.items()).fingerprint
    assert (revision.name, revision.picture_count, revision.class_count) == ("datasets/pushed/revisions/1", 3, 2)
    assert (revision.single_picture_class_count, revision.size_bytes) == (1, 11)
    assert before - 1 < revision.create_time.ToNanoseconds() / 1e9 < time.time() + 1


def test_a_manifest_may_come_in_parts_and_again(trainer: Trainer) -> None:
    trainer.push("whole", SHOES)
    entries = [entry(path, content) for path, content in SHOES.items()]
    parts = [pb.CommitRevisionRequest(dataset="datasets/parts", entries=entries[:1]), pb.CommitRevisionRequest(entries=entries[1:])]
    first = commit(trainer, *parts)
    assert first.fingerprint == get(trainer, "datasets/whole").fingerprint
    assert commit(trainer, *parts) == first
    assert commit(trainer, parts[0]).name == "datasets/parts/revisions/2"


def test_a_broken_upload_goes_on(trainer: Trainer) -> None:
    whole, half, rest = os.urandom(100), os.urandom(100), os.urandom(100)

    def stops_in_the_middle() -> Iterator[pb.UploadBlobsRequest]:
        yield from chunks_of(whole)
        yield next(chunks_of(half, size=50))
        while missing(trainer, digest(whole)):
            time.sleep(0.02)
        call.cancel()
        time.sleep(0.5)
        yield from chunks_of(rest)

    call = trainer.datasets.UploadBlobs.future(stops_in_the_middle())
    with pytest.raises(grpc.FutureCancelledError):
        call.result(30)
    assert missing(trainer, digest(whole), digest(half), digest(rest)) == [digest(half), digest(rest)]
    answer = trainer.datasets.UploadBlobs(chunk for content in (half, rest) for chunk in chunks_of(content, size=30))
    assert (answer.blob_count, answer.size_bytes) == (2, 200)
    assert missing(trainer, digest(half), digest(rest)) == []


def test_a_content_that_is_not_its_digest_is_refused_and_earlier_ones_stay(trainer: Trainer) -> None:
    good, bad = os.urandom(10), os.urandom(10)
    wrong = pb.UploadBlobsRequest(sha256=digest(bad), size_bytes=10, data=os.urandom(10))
    with refused(grpc.StatusCode.DATA_LOSS, "DIGEST_MISMATCH"):
        trainer.datasets.UploadBlobs(iter([*chunks_of(good), wrong]))
    with refused(grpc.StatusCode.DATA_LOSS, "DIGEST_MISMATCH"):
        trainer.datasets.UploadBlobs(iter([pb.UploadBlobsRequest(sha256=digest(bad), size_bytes=10, data=bad[:5])]))
    assert missing(trainer, digest(good), digest(bad)) == [digest(bad)]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.UploadBlobsRequest(data=b"x"), "sha256"),
        (pb.UploadBlobsRequest(sha256="../../x", size_bytes=1, data=b"x"), "sha256"),
        (pb.UploadBlobsRequest(sha256="a" * 64, size_bytes=0), "size_bytes"),
        (pb.UploadBlobsRequest(sha256="a" * 64, size_bytes=(4 << 30) + 1), "size_bytes"),
        (pb.UploadBlobsRequest(sha256="a" * 64, size_bytes=3 << 20, data=bytes((2 << 20) + 1)), "data"),
    ],
)
def test_a_wrong_chunk_is_named(trainer: Trainer, request_: pb.UploadBlobsRequest, field: str) -> None:
    with refused(INVALID, "INVALID_FIELD", field):
        trainer.datasets.UploadBlobs(iter([request_]))


def test_a_message_over_the_limit_is_refused(trainer: Trainer) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        trainer.datasets.UploadBlobs(iter([pb.UploadBlobsRequest(sha256="a" * 64, size_bytes=17 << 20, data=bytes(17 << 20))]))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert get(trainer, trainer.push("after-it", SHOES).name)


def test_a_full_disk_is_said_so(start: Start) -> None:
    trainer = start(FAKE, ["--file-bytes", str(3 << 20)])
    fits, too_large = os.urandom(1 << 20), os.urandom(5 << 20)
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FULL"):
        trainer.datasets.UploadBlobs(chunk for content in (fits, too_large) for chunk in chunks_of(content))
    assert missing(trainer, digest(fits), digest(too_large)) == [digest(too_large)]
    assert list((trainer.folder / "blobs" / "partial").iterdir()) == []


def test_digests_are_asked_for_within_limits(trainer: Trainer) -> None:
    some = [f"{number:064x}" for number in range(10_000)]
    assert missing(trainer, *some) == some
    with refused(INVALID, "INVALID_FIELD", "sha256"):
        missing(trainer, *some, "a" * 64)
    with refused(INVALID, "INVALID_FIELD", "sha256[1]"):
        missing(trainer, "a" * 64, "../x")


def test_contents_must_be_there_to_be_named(trainer: Trainer) -> None:
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "BLOBS_MISSING"):
        commit(trainer, pb.CommitRevisionRequest(dataset="datasets/hasty", entries=[entry("a/1", os.urandom(8))]))
    with refused(grpc.StatusCode.NOT_FOUND, "DATASET_NOT_FOUND"):
        get(trainer, "datasets/hasty")


def test_an_empty_manifest_is_refused(trainer: Trainer) -> None:
    with refused(INVALID, "EMPTY_DATASET"):
        commit(trainer, pb.CommitRevisionRequest(dataset="datasets/none"))


@pytest.mark.parametrize(
    ("requests", "field"),
    [
        ([], "dataset"),
        ([pb.CommitRevisionRequest(dataset="datasets/../x")], "dataset"),
        ([pb.CommitRevisionRequest(dataset="shoes")], "dataset"),
        ([pb.CommitRevisionRequest(dataset="datasets/a"), pb.CommitRevisionRequest(dataset="datasets/a")], "dataset"),
        ([pb.CommitRevisionRequest(dataset="datasets/a", entries=[entry("../x", b"one")])], "entries[0].path"),
        ([pb.CommitRevisionRequest(dataset="datasets/a", entries=[entry("a/1", b"1"), entry("/x", b"1")])], "entries[1].path"),
        ([pb.CommitRevisionRequest(dataset="datasets/a", entries=[entry("a/1", b"1")] * 2)], "entries[1].path"),
        ([pb.CommitRevisionRequest(dataset="datasets/a", entries=[entry("a/1", b"")])], "entries[0].size_bytes"),
        ([pb.CommitRevisionRequest(dataset="datasets/a", entries=[entry("a/1", bytes((15 << 20) + 1))])], "entries[0].size_bytes"),
        ([pb.CommitRevisionRequest(dataset="datasets/a", entries=[entry(str(n), b"1") for n in range(10_001)])], "entries"),
    ],
)
def test_a_wrong_manifest_is_refused_naming_the_field(trainer: Trainer, requests: list[pb.CommitRevisionRequest], field: str) -> None:
    with refused(INVALID, "INVALID_FIELD", field):
        commit(trainer, *requests)


def test_a_folder_of_the_server_is_imported(trainer: Trainer, import_root: Path) -> None:
    request = pb.ImportRevisionRequest(dataset="datasets/imported", uri=f"file://{import_root}/shoes")
    revision = trainer.datasets.ImportRevision(request)
    assert (revision.name, revision.picture_count, revision.class_count) == ("datasets/imported/revisions/1", 2, 2)
    assert trainer.datasets.ImportRevision(request) == revision


@pytest.mark.parametrize(
    ("path", "code", "reason"),
    [
        ("/../outside", grpc.StatusCode.PERMISSION_DENIED, "OUTSIDE_ROOTS"),
        ("/nothing", grpc.StatusCode.NOT_FOUND, "FOLDER_NOT_FOUND"),
        ("/empty", INVALID, "EMPTY_DATASET"),
        ("/x" * 2_100, INVALID, "INVALID_FIELD"),
    ],
)
def test_a_folder_that_cannot_be_imported_is_said_so(
    trainer: Trainer, import_root: Path, path: str, code: grpc.StatusCode, reason: str
) -> None:
    with refused(code, reason):
        trainer.datasets.ImportRevision(pb.ImportRevisionRequest(dataset="datasets/wrong", uri=f"file://{import_root}{path}"))


def test_without_roots_nothing_is_imported(start: Start, import_root: Path) -> None:
    with refused(grpc.StatusCode.PERMISSION_DENIED, "OUTSIDE_ROOTS"):
        start().datasets.ImportRevision(pb.ImportRevisionRequest(dataset="datasets/a", uri=f"file://{import_root}/shoes"))


def test_datasets_are_listed_in_pages(start: Start) -> None:
    trainer = start()
    for name in ("c", "a", "b"):
        trainer.push(name, SHOES)
    whole = trainer.datasets.ListDatasets(pb.ListDatasetsRequest())
    assert ([each.name for each in whole.datasets], whole.next_page_token) == (["datasets/a", "datasets/b", "datasets/c"], "")
    assert whole.datasets[0].latest == get(trainer, "datasets/a")
    first = trainer.datasets.ListDatasets(pb.ListDatasetsRequest(page_size=2))
    second = trainer.datasets.ListDatasets(pb.ListDatasetsRequest(page_size=2, page_token=first.next_page_token))
    assert [*first.datasets, *second.datasets] == list(whole.datasets)
    assert second.next_page_token == ""


def test_wrong_pages_are_refused(trainer: Trainer) -> None:
    for size in (-1, 1_001):
        with refused(INVALID, "INVALID_FIELD", "page_size"):
            trainer.datasets.ListDatasets(pb.ListDatasetsRequest(page_size=size))
    with refused(INVALID, "INVALID_FIELD"):
        trainer.datasets.ListDatasets(pb.ListDatasetsRequest(page_token="!"))


@pytest.mark.parametrize("name", ["datasets/nobody", "datasets/nobody/revisions/1"])
def test_a_dataset_that_is_not_there_is_said_so(trainer: Trainer, name: str) -> None:
    with refused(grpc.StatusCode.NOT_FOUND, "DATASET_NOT_FOUND"):
        get(trainer, name)


@pytest.mark.parametrize("name", ["", "datasets/../x", "datasets/a/revisions/0", "datasets/a/revisions/x", "models/a"])
def test_what_is_no_name_is_refused(trainer: Trainer, name: str) -> None:
    with refused(INVALID, "INVALID_FIELD", "name"):
        get(trainer, name)


def test_a_dataset_is_deleted_with_its_contents_unless_a_job_uses_it(trainer: Trainer) -> None:
    mine = os.urandom(20)
    revision = trainer.push("doomed", {"a/1": mine, "b/1": b"one"})
    trainer.push("kept", SHOES)
    job = trainer.create(train_job(revision.name, model="slow"))
    delete = pb.DeleteDatasetRequest(name="datasets/doomed")
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "DATASET_IN_USE"):
        trainer.datasets.DeleteDataset(delete)
    trainer.cancel(job.name)
    trainer.wait(job.name)
    assert trainer.datasets.DeleteDataset(delete) == Empty()
    assert missing(trainer, digest(mine), digest(b"one")) == [digest(mine)]
    for name in ("datasets/doomed", revision.name):
        with refused(grpc.StatusCode.NOT_FOUND, "DATASET_NOT_FOUND"):
            get(trainer, name)
    with refused(grpc.StatusCode.NOT_FOUND, "DATASET_NOT_FOUND"):
        trainer.datasets.DeleteDataset(delete)
