from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from lookalike_runtime.errors import FailedPrecondition, InvalidArgument, NotFound
from lookalike_trainer.job_spec import Start
from lookalike_trainer.manifest import Entry, Manifest

from .parts import Parts

SHOES = {"boots/1": b"one", "boots/2": b"two", "clogs/1": b"three"}


def test_a_revision_says_what_is_in_it(parts: Parts) -> None:
    revision = parts.commit("shoes", SHOES)
    assert revision.name == "datasets/shoes/revisions/1"
    assert (revision.pictures, revision.classes, revision.single_picture_classes, revision.size) == (3, 2, 1, 11)
    assert parts.datasets.get("shoes", 1) == parts.datasets.get("shoes", None) == revision
    assert parts.datasets.manifest_path(revision).read_bytes().count(b"\n") == 3


def test_an_equal_manifest_answers_the_newest_revision(parts: Parts) -> None:
    first = parts.commit("shoes", SHOES)
    assert parts.commit("shoes", dict(reversed(SHOES.items()))) == first
    assert parts.commit("other", SHOES).fingerprint == first.fingerprint
    second = parts.commit("shoes", SHOES | {"clogs/2": b"four"})
    third = parts.commit("shoes", SHOES)
    assert (second.number, third.number, third.fingerprint) == (2, 3, first.fingerprint)


def test_contents_must_be_there(parts: Parts) -> None:
    missing = hashlib.sha256(b"x").hexdigest()
    with pytest.raises(FailedPrecondition, match="boots/1") as caught:
        parts.datasets.commit("shoes", Manifest.of([Entry("boots/1", "boots", missing, 1)]))
    assert caught.value.reason == "BLOBS_MISSING"
    with pytest.raises(NotFound):
        parts.datasets.get("shoes", None)


def test_a_size_must_be_that_of_the_content(parts: Parts) -> None:
    parts.commit("shoes", SHOES)
    with pytest.raises(InvalidArgument, match="4 bytes, its content has 3"):
        parts.datasets.commit("shoes", Manifest.of([Entry("boots/1", "boots", hashlib.sha256(b"one").hexdigest(), 4)]))


def test_datasets_are_listed_by_name_with_their_newest(parts: Parts) -> None:
    for name in ("c", "a", "b"):
        parts.commit(name, SHOES)
    parts.commit("b", SHOES | {"x/1": b"x"})
    assert [(r.dataset, r.number) for r in parts.datasets.page("", 10)] == [("a", 1), ("b", 2), ("c", 1)]
    assert [r.dataset for r in parts.datasets.page("a", 1)] == ["b"]


def test_deleting_removes_what_nothing_else_names(parts: Parts) -> None:
    gone = parts.commit("gone", {"a/1": b"only here", "b/1": b"shared", "c/1": b"weights"})
    parts.commit("kept", {"a/1": b"shared"})
    weights = hashlib.sha256(b"weights").hexdigest()
    parts.queue(start=Start(kind="weights", name="resnet10t", sha256=weights))
    parts.datasets.delete("gone")
    assert not parts.datasets.manifest_path(gone).exists()
    left = {hashlib.sha256(content).hexdigest() for content in (b"shared", b"weights")}
    assert {path.name for path in parts.blobs.root.rglob("*") if path.is_file()} == left
    with pytest.raises(NotFound, match="datasets/gone"):
        parts.datasets.delete("gone")


def test_a_number_never_comes_back(parts: Parts) -> None:
    parts.commit("shoes", SHOES)
    parts.datasets.delete("shoes")
    assert parts.commit("shoes", SHOES).number == 2
    with pytest.raises(NotFound):
        parts.datasets.get("shoes", 1)


def test_a_dataset_in_use_stays(parts: Parts) -> None:
    parts.commit("shoes", SHOES)
    job = parts.admission.create("r", parts.train_spec())
    with pytest.raises(FailedPrecondition, match=job.uid) as caught:
        parts.datasets.delete("shoes")
    assert caught.value.reason == "DATASET_IN_USE"
    parts.jobs.request_cancel(job.uid)
    parts.datasets.delete("shoes")


def test_a_revision_that_never_came_to_be_is_removed_at_the_next_start(reopen: Callable[[], Parts], tmp_path: Path) -> None:
    kept = reopen().commit("shoes", SHOES)
    half_done = tmp_path / "trainer" / "datasets" / "0123"
    Manifest.of([Entry("boots/1", "boots", "ab" * 32, 1)]).write(half_done)
    again = reopen()
    assert not half_done.exists()
    assert again.datasets.manifest_path(again.datasets.get("shoes", 1)).exists()
    assert again.datasets.get("shoes", None) == kept
