from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from lookalike_runtime.errors import DataLoss, InvalidArgument, ResourceExhausted
from lookalike_trainer.blobs import MAX_BLOB_BYTES, MAX_CHUNK_BYTES, BlobStore, blob_path

SHOE = b"a picture of a shoe"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def files_of(store: BlobStore) -> list[Path]:
    return [path for path in store.root.rglob("*") if path.is_file()]


def test_a_content_lies_under_its_digest(store: BlobStore) -> None:
    with store.receive() as receiver:
        receiver.receive(digest(SHOE), len(SHOE), SHOE[:4])
        assert store.missing([digest(SHOE)]) == [digest(SHOE)]
        receiver.receive("", 0, SHOE[4:])
        assert store.missing([digest(SHOE)]) == []
    assert (receiver.blob_count, receiver.byte_count) == (1, len(SHOE))
    assert blob_path(store.root, digest(SHOE)).read_bytes() == SHOE
    assert blob_path(store.root, digest(SHOE)) == store.root / digest(SHOE)[:2] / digest(SHOE)


def test_a_content_larger_than_a_chunk_is_added_whole(store: BlobStore) -> None:
    content = os.urandom(2 * MAX_CHUNK_BYTES + 5)
    with store.receive() as receiver:
        assert receiver.add(content) == digest(content)
    assert store.path(digest(content)).read_bytes() == content


def test_each_missing_content_is_named_once(store: BlobStore) -> None:
    with store.receive() as receiver:
        receiver.add(SHOE)
    a, b = digest(b"a"), digest(b"b")
    assert store.missing([b, digest(SHOE), a, b]) == [b, a]


@pytest.mark.parametrize("sent", [SHOE[:-1] + b"!", SHOE + b"!"])
def test_what_is_not_its_digest_is_refused_and_what_came_before_stays(store: BlobStore, sent: bytes) -> None:
    with store.receive() as receiver:
        receiver.add(b"earlier")
        with pytest.raises(DataLoss, match=digest(SHOE)) as caught:
            receiver.receive(digest(SHOE), len(SHOE), sent)
        receiver.drop()
    assert caught.value.reason == "DIGEST_MISMATCH"
    assert files_of(store) == [store.path(digest(b"earlier"))]


def test_a_content_that_ends_early_is_refused(store: BlobStore) -> None:
    with store.receive() as receiver:
        receiver.receive(digest(SHOE), len(SHOE), SHOE[:3])
        with pytest.raises(DataLoss, match="ended early"):
            receiver.receive(digest(b"next"), 4, b"next")
        receiver.drop()
    with pytest.raises(DataLoss, match="ended early"), store.receive() as receiver:
        receiver.receive(digest(SHOE), len(SHOE), SHOE[:3])
    assert files_of(store) == []


@pytest.mark.parametrize(
    ("sha256", "size", "data", "field"),
    [
        ("", 0, b"x", "sha256"),
        ("../" + "a" * 61, 1, b"x", "sha256"),
        ("A" * 64, 1, b"x", "sha256"),
        ("a" * 64, 0, b"", "size_bytes"),
        ("a" * 64, MAX_BLOB_BYTES + 1, b"x", "size_bytes"),
        ("a" * 64, MAX_BLOB_BYTES, bytes(MAX_CHUNK_BYTES + 1), "data"),
    ],
)
def test_a_wrong_chunk_is_named(store: BlobStore, sha256: str, size: int, data: bytes, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught, store.receive() as receiver:
        receiver.receive(sha256, size, data)
    assert caught.value.violations[0].field == field
    assert files_of(store) == []


def test_what_an_earlier_process_left_half_written_is_removed(store: BlobStore) -> None:
    receiver = store.receive()
    receiver.receive(digest(SHOE), len(SHOE), SHOE[:3])
    assert len(files_of(store)) == 1
    assert files_of(BlobStore(store.root)) == []


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_content_that_cannot_fit_is_refused_at_once(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100, 90, 10))
    with pytest.raises(ResourceExhausted) as caught, store.receive() as receiver:
        receiver.receive(digest(SHOE), len(SHOE), SHOE)
    assert caught.value.reason == "DISK_FULL"


def test_a_full_disk_is_said_so(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceExhausted, match="free some"), store.receive() as receiver:
        receiver.add(SHOE)
    assert files_of(store) == []


def test_a_content_is_synced_before_it_gets_its_name(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def traced(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            calls.append(name)
            return real(*arguments)

        return call

    monkeypatch.setattr(os, "fsync", traced("sync", os.fsync))
    monkeypatch.setattr(Path, "rename", traced("rename", Path.rename))
    with store.receive() as receiver:
        receiver.add(SHOE)
        assert calls == ["sync", "rename"]
    assert calls == ["sync", "rename", "sync", "sync"]
