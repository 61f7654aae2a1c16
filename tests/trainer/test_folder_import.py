from __future__ import annotations

from pathlib import Path

import pytest

from lookalike_runtime.errors import InvalidArgument, NotFound, PermissionDenied
from lookalike_trainer import folder_import
from lookalike_trainer.blobs import BlobStore
from lookalike_trainer.folder_import import folder_of, import_folder

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    for name in ("boots/1.png", "boots/deep/2", "clogs/1.png"):
        (root / "shoes" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "shoes" / name).write_bytes(PNG + name.encode())
    return root


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def test_the_first_folder_is_the_label(root: Path, blobs: BlobStore) -> None:
    manifest = import_folder(root / "shoes", [root], blobs)
    assert [(e.path, e.label) for e in manifest.entries] == [("boots/1.png", "boots"), ("boots/deep/2", "boots"), ("clogs/1.png", "clogs")]
    assert [blobs.path(e.sha256).read_bytes() for e in manifest.entries] == [PNG + e.path.encode() for e in manifest.entries]


def test_what_is_no_picture_is_passed_over(root: Path, blobs: BlobStore) -> None:
    for name in ("boots/notes.txt", "boots/.hidden.png", "boots/Thumbs.db", "boots/empty.png", ".git/x/1.png", "outside_a_class.png"):
        (root / "shoes" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "shoes" / name).write_bytes(PNG if name.endswith("s.png") or "hidden" in name else b"")
    assert len(import_folder(root / "shoes", [root], blobs).entries) == 3


def test_a_folder_without_pictures_is_said_so(root: Path, blobs: BlobStore) -> None:
    with pytest.raises(InvalidArgument, match="no picture in a class folder") as caught:
        import_folder(root / "shoes" / "clogs", [root], blobs)
    assert caught.value.reason == "EMPTY_DATASET"


@pytest.mark.parametrize("uri", ["file://{}/shoes", "file://localhost{}/shoes", "file://{}/a%20b/../shoes"])
def test_a_folder_below_a_root_is_found(root: Path, uri: str) -> None:
    assert folder_of(uri.format(root), [root]) == root / "shoes"


@pytest.mark.parametrize(
    "uri", ["", "shoes", "/x", "http://x/y", *(f"file:{rest}" for rest in ("//elsewhere/x", "x", "///x?y", "///x%00", "//["))]
)
def test_another_uri_is_refused(root: Path, uri: str) -> None:
    with pytest.raises(InvalidArgument):
        folder_of(uri, [root])


def test_a_uri_has_a_limit(root: Path) -> None:
    with pytest.raises(InvalidArgument):
        folder_of(f"file://{root}/{'x' * 4096}", [root])


@pytest.mark.parametrize("path", ["", "/..", "/shoes/../../x", "-other"])
def test_a_folder_outside_the_roots_is_refused(root: Path, path: str) -> None:
    with pytest.raises(PermissionDenied) as caught:
        folder_of(f"file://{root}/shoes{path}" if path.startswith("-") else f"file://{root}{path}", [root / "shoes"])
    assert caught.value.reason == "OUTSIDE_ROOTS"
    with pytest.raises(PermissionDenied):
        folder_of(f"file://{root}", [])


def test_a_folder_that_is_not_there_is_said_so(root: Path) -> None:
    with pytest.raises(NotFound) as caught:
        folder_of(f"file://{root}/boats", [root])
    assert caught.value.reason == "FOLDER_NOT_FOUND"


@pytest.mark.parametrize("link", ["boots/link.png", "boots/link", "link"])
def test_a_link_may_not_lead_out(root: Path, blobs: BlobStore, tmp_path: Path, link: str) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "1.png").write_bytes(PNG)
    target = tmp_path / "secret"
    (root / "shoes" / link).symlink_to(target / "1.png" if link.endswith("png") else target)
    with pytest.raises(PermissionDenied, match="link"):
        import_folder(root / "shoes", [root], blobs)
    with pytest.raises(PermissionDenied):
        folder_of(f"file://{root}/shoes/{link}", [root])


def test_links_inside_are_followed_and_circles_are_not(root: Path, blobs: BlobStore) -> None:
    (root / "shoes" / "clogs" / "again").symlink_to(root / "shoes")
    (root / "shoes" / "sabots").symlink_to(root / "shoes" / "clogs")
    (root / "shoes" / "boots" / "dangling.png").symlink_to(root / "nothing")
    labels = [entry.label for entry in import_folder(root / "shoes", [root], blobs).entries]
    assert set(labels) == {"boots", "clogs", "sabots"}
    assert labels.count("boots") == 2


def test_a_picture_past_the_limit_is_named(root: Path, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_import, "MAX_PICTURE_BYTES", 18)
    with pytest.raises(InvalidArgument, match=r"boots/1\.png"):
        import_folder(root / "shoes", [root], blobs)
