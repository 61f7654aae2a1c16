from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lookalike_indexer.admission import Offer
from lookalike_indexer.builds.job import Job
from lookalike_indexer.builds.manifest import DamagedBuild, read_manifest
from lookalike_indexer.builds.stages import run_build
from lookalike_indexer.collection import ITEMS_FILE, OpenCollection
from lookalike_indexer.records import Dba, Space
from lookalike_indexer.served_build import open_build
from lookalike_indexer.store import NewItem

AUGMENTED = ["neighbours.u32", "raw.f32", "similarities.f32", "weights.f32"]
FILES = sorted([*AUGMENTED, "ids.json", "manifest.json", "projection.npy", "trees-4-5.ann", "vectors.f32"])


@pytest.fixture
def folder(tmp_path: Path, collection: OpenCollection, rng: np.random.Generator) -> Path:
    """A build of 60 items into Annoy."""
    vectors = rng.standard_normal((60, 8)).astype(np.float32)
    collection.upsert([Offer(NewItem(f"{n:02d}")) for n in range(60)], vectors)
    folder = tmp_path / "build"
    folder.mkdir()
    job = Job(
        database=collection.folder / ITEMS_FILE, folder=folder, space=collection.space, engine="annoy", dba=Dba(k=2),
        trees=5, reduced_dim=4, force_engine=True, recall_target=0.95, exact_below=0,
    )  # fmt: skip
    run_build(job, lambda _: None)
    return folder


def test_a_build_holds_its_files_and_nothing_besides(folder: Path, space: Space) -> None:
    assert sorted(path.name for path in folder.iterdir()) == FILES
    manifest = read_manifest(folder, space)
    assert manifest.report.size_bytes == sum((folder / name).stat().st_size for name in FILES if name != "manifest.json")
    assert open_build(folder, 1, space).ids == [f"{n:02d}" for n in range(60)]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", ["truncated", "emptied", "flipped", "removed"])
def test_each_harm_to_each_file_is_noticed_at_load(folder: Path, space: Space, name: str, harm: str) -> None:
    path = folder / name
    content = bytearray(path.read_bytes())
    if harm == "removed":
        path.unlink()
    else:
        content[len(content) // 2] ^= 4
        path.write_bytes({"truncated": bytes(content[:-1]), "emptied": b"", "flipped": bytes(content)}[harm])
    with pytest.raises(DamagedBuild):
        open_build(folder, 1, space)


@pytest.mark.parametrize(("field", "value"), [("dim", 4), ("metric", "euclidean"), ("fingerprint", "ls1:" + "b" * 64), ("format", 2)])
def test_a_build_of_another_kind_is_not_loaded(folder: Path, space: Space, field: str, value: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(DamagedBuild, match=r"another format, space, dimension or metric.*build the collection again"):
        open_build(folder, 1, space)


def test_a_manifest_cannot_name_files_outside_its_folder(folder: Path, space: Space) -> None:
    path = folder / "manifest.json"
    document = json.loads(path.read_text())
    document["files"]["../../items.db"] = document["files"].pop("trees-4-5.ann")
    path.write_text(json.dumps(document))
    with pytest.raises(DamagedBuild):
        open_build(folder, 1, space)
