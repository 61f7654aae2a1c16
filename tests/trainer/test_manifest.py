from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike_runtime.errors import InvalidArgument
from lookalike_trainer import manifest
from lookalike_trainer.manifest import MAX_PICTURE_BYTES, Entry, Manifest, ManifestDraft, digests_in

SHA = "ab" * 32
names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20).filter(
    lambda name: name not in {".", ".."}
)


def entry(path: str = "shoes/1.jpg", label: str = "shoes", sha256: str = SHA, size: int = 5) -> Entry:
    return Entry(path, label, sha256, size)


@given(st.lists(st.tuples(names, names), min_size=1, max_size=8, unique_by=lambda pair: pair[0]), st.randoms())
def test_the_fingerprint_does_not_depend_on_the_order(pairs: list[tuple[str, str]], random: object) -> None:
    entries = [entry(path, label) for path, label in pairs]
    shuffled = list(entries)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert Manifest.of(entries) == Manifest.of(shuffled)


@pytest.mark.parametrize("changed", [entry(path="shoes/2.jpg"), entry(label="boots"), entry(sha256="cd" * 32), entry(size=6)])
def test_each_field_is_in_the_fingerprint(changed: Entry) -> None:
    assert Manifest.of([entry()]).fingerprint != Manifest.of([changed]).fingerprint


def test_the_fingerprint_is_the_digest_of_the_file(tmp_path: Path) -> None:
    made = Manifest.of([entry("é/1.jpg", "é"), entry("a/1.jpg", "a"), entry("a/2.jpg", "a")])
    made.write(tmp_path / "revision")
    data = (tmp_path / "revision" / "manifest.jsonl").read_bytes()
    assert made.fingerprint == "ld1:" + hashlib.sha256(data).hexdigest()
    assert data.splitlines()[0] == b'{"label":"a","path":"a/1.jpg","sha256":"' + SHA.encode() + b'","size":5}'
    assert list(digests_in(tmp_path / "revision" / "manifest.jsonl")) == [SHA] * 3


def test_classes_and_bytes_are_counted() -> None:
    made = Manifest.of([entry("1", "a"), entry("2", "a"), entry("3", "b"), entry("4", "c")])
    assert (made.classes, made.single_picture_classes, made.size) == (3, 2, 20)


@pytest.mark.parametrize("path", ["../x", "a/../x", "/x", "a//x", "a/", ".", "./x", "", "x" * 513, "é" * 257, "a\0b"])
def test_a_path_that_is_none_inside_a_dataset_is_refused(path: str) -> None:
    with pytest.raises(InvalidArgument, match=r"entries\[3\]\.path"):
        ManifestDraft().add("entries[3]", entry(path))


@pytest.mark.parametrize("path", ["x" * 512, "..x/a..b", "a\\b", "写真/靴.jpg", " "])
def test_any_other_path_may_be_used(path: str) -> None:
    draft = ManifestDraft()
    draft.add("entries[0]", entry(path))
    assert draft.finish().entries[0].path == path


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (entry(label=""), "label"),
        (entry(label="x" * 513), "label"),
        (entry(sha256="AB" * 32), "sha256"),
        (entry(size=0), "size_bytes"),
        (entry(size=MAX_PICTURE_BYTES + 1), "size_bytes"),
    ],
)
def test_a_wrong_entry_is_named(wrong: Entry, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        ManifestDraft().add("entries[0]", wrong)
    assert caught.value.violations[0].field == f"entries[0].{field}"


def test_a_path_may_stand_in_a_manifest_once() -> None:
    draft = ManifestDraft()
    draft.add("entries[0]", entry())
    with pytest.raises(InvalidArgument, match="twice"):
        draft.add("entries[1]", entry(label="boots"))


def test_a_manifest_has_an_entry() -> None:
    with pytest.raises(InvalidArgument) as caught:
        ManifestDraft().finish()
    assert caught.value.reason == "EMPTY_DATASET"


def test_a_revision_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "MAX_ENTRIES", 2)
    draft = ManifestDraft()
    draft.add("entries[0]", entry("1"))
    draft.add("entries[1]", entry("2"))
    with pytest.raises(InvalidArgument, match="more than 2"):
        draft.add("entries[2]", entry("3"))
