from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from lookalike_indexer.admission import Offer
from lookalike_indexer.archives.reading import Archive
from lookalike_indexer.archives.writing import write_archive
from lookalike_indexer.build_log import BuildLog
from lookalike_indexer.catalog import Catalog, open_catalog
from lookalike_indexer.collections import Collections
from lookalike_indexer.records import Dba, Space
from lookalike_indexer.store import Columns, NewItem
from lookalike_runtime.errors import AlreadyExists, InvalidArgument

SPACE = Space(fingerprint="ls1:" + "a" * 64, model="shoes", version=3, profile="plain", dim=4)
COUNT = 1_203
Files = dict[str, bytes]


@pytest.fixture
def collections(tmp_path: Path) -> Iterator[Collections]:
    database = open_catalog(tmp_path / "catalog.db")
    opened = Collections(tmp_path / "collections", Catalog(database), BuildLog(database))
    yield opened
    opened.close()
    database.close()


@pytest.fixture
def archive(collections: Collections) -> bytes:
    """An archive of items that have all there is to have, and of some that have nothing but a vector."""
    record = collections.create("shoes", SPACE, "annoy", Dba(k=3), 0.9, None).record
    opened = collections.open(record)
    rng = np.random.default_rng(5)
    for start in range(0, COUNT, 500):
        items = [_item(number) for number in range(start, min(start + 500, COUNT))]
        opened.upsert([Offer(item) for item in items], rng.standard_normal((len(items), 4)).astype(np.float32))
    opened.delete(["0007 ✓"])
    file = io.BytesIO()
    settings = write_archive(opened, record, file)
    assert (settings.revision, settings.item_count) == (4, COUNT - 1)
    return file.getvalue()


def _item(number: int) -> NewItem:
    if number % 3 == 0:
        return NewItem(f"{number:04}")
    payload = json.dumps({"price": number / 8, "tags": ["a", None], "nested": {"ünï": True}}, ensure_ascii=False)
    return NewItem(f"{number:04} ✓", f"label\n{number}", f"pictures/{number}.png", bytes([number % 256]) * number, b"x" * 32, payload)


def test_an_archive_gives_back_every_item_as_it_was(collections: Collections, archive: bytes) -> None:
    summary = collections.restore("again", Archive(io.BytesIO(archive)), None)
    assert summary.item_count == COUNT - 1
    assert (summary.record.space, summary.record.dba, summary.record.recall_target) == (SPACE, Dba(k=3), 0.9)
    everything = Columns(thumbnail=True, vector=True)
    before, after = (collections.get(name).store.page(None, 2_000, everything, 1 << 40)[1] for name in ("shoes", "again"))
    assert [each.id for each in after] == [each.id for each in before]
    for one, other in zip(before, after, strict=True):
        assert json.loads(one.payload or "null") == json.loads(other.payload or "null")
        fields = ("label", "uri", "thumbnail", "content_sha256", "create_time", "update_time", "vector")
        assert [getattr(one, field) for field in fields] == [getattr(other, field) for field in fields]


def test_whoever_has_numpy_reads_it(archive: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        names = tar.getnames()
        assert names[0] == "collection.json"
        assert names[-1] == "manifest.json"
        lines = [json.loads(line) for line in _read(tar, "items-000001.jsonl").splitlines()]
        vectors = load(_read(tar, "vectors-000001.safetensors"))["vectors"]
        thumbnails = load(_read(tar, "thumbnails-000001.safetensors"))
    assert len(lines) == len(vectors) == COUNT - 1 - 1_000
    assert lines[-1]["payload"]["price"] == float(lines[-1]["id"].split()[0]) / 8
    assert np.diff(thumbnails["offsets"])[-1] == int(lines[-1]["id"].split()[0])


def test_what_is_written_during_an_export_is_not_in_it(collections: Collections) -> None:
    opened = collections.open(collections.create("busy", SPACE, "exact", Dba(), 0.95, None).record)
    opened.upsert([Offer(NewItem(f"{number:04}")) for number in range(1_500)], np.ones((1_500, 4), np.float32))
    with opened.store.one_state(1_000) as state:
        first = next(state.parts)
        opened.upsert([Offer(NewItem("1200 new"))], np.ones((1, 4), np.float32))
        opened.delete(["1300"])
        ids = [item.id for part in ([first], state.parts) for items in part for item in items]
    assert ids == [f"{number:04}" for number in range(1_500)]


def test_a_name_that_is_taken_is_refused(collections: Collections, archive: bytes) -> None:
    with pytest.raises(AlreadyExists):
        collections.restore("shoes", Archive(io.BytesIO(archive)), None)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.7, 0.98])
def test_an_archive_cut_short_is_refused(archive: bytes, share: float) -> None:
    with pytest.raises(InvalidArgument) as error:
        Archive(io.BytesIO(archive[: int(len(archive) * share)]))
    assert error.value.reason == "ARCHIVE_DAMAGED"


@pytest.mark.parametrize("name", ["collection.json", "items-000000.jsonl", "vectors-000001.safetensors", "thumbnails-000000.safetensors"])
def test_a_flipped_bit_is_found_and_its_file_named(archive: bytes, name: str) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        place = tar.getmember(name).offset_data + 40
    damaged = bytearray(archive)
    damaged[place] ^= 4
    with pytest.raises(InvalidArgument, match=name.replace(".", r"\.")):
        Archive(io.BytesIO(bytes(damaged)))


def _without_last_item(files: Files) -> None:
    files["items-000001.jsonl"] = files["items-000001.jsonl"][: files["items-000001.jsonl"][:-1].rindex(b"\n") + 1]


def _zero_vector(files: Files) -> None:
    vectors = load(files["vectors-000000.safetensors"])["vectors"].copy()
    vectors[3] = 0
    files["vectors-000000.safetensors"] = save({"vectors": vectors})


def _other_dtype(files: Files) -> None:
    vectors = load(files["vectors-000000.safetensors"])["vectors"]
    files["vectors-000000.safetensors"] = save({"vectors": vectors.astype(np.int32)})


def _offsets_outside(files: Files) -> None:
    tensors = load(files["thumbnails-000000.safetensors"])
    tensors["offsets"] = tensors["offsets"] + 1
    files["thumbnails-000000.safetensors"] = save(tensors)


def _twice_the_same(files: Files) -> None:
    first, rest = files["items-000000.jsonl"].split(b"\n", 1)
    _, rest = rest.split(b"\n", 1)
    files["items-000000.jsonl"] = first + b"\n" + first + b"\n" + rest


def _pickle(files: Files) -> None:
    files["vectors-000000.safetensors"] = b"\x80\x04cposix\nsystem\n(S'touch pwned'\ntR."


def _deep_payload(files: Files) -> None:
    line = b'{"id": "0", "create_time": 1, "update_time": 1, "payload": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}\n"
    files["items-000000.jsonl"] = line + files["items-000000.jsonl"].split(b"\n", 1)[1]


def _unknown_engine(files: Files) -> None:
    files["collection.json"] = files["collection.json"].replace(b'"annoy"', b'"magic"')


def _newer_format(files: Files) -> None:
    files["collection.json"] = files["collection.json"].replace(b'"format": 1', b'"format": 2')


@pytest.mark.parametrize(
    "change",
    [
        _without_last_item, _zero_vector, _other_dtype, _offsets_outside, _twice_the_same, _pickle, _deep_payload, _unknown_engine,
        _newer_format,
    ],
)  # fmt: skip
def test_an_archive_made_by_hand_is_refused_and_leaves_nothing(
    collections: Collections, archive: bytes, tmp_path: Path, change: Callable[[Files], None]
) -> None:
    files = _files(archive)
    change(files)
    folders = set((tmp_path / "collections").iterdir())
    with pytest.raises(InvalidArgument) as error:
        collections.restore("again", Archive(io.BytesIO(_packed(files))), None)
    assert error.value.reason == "ARCHIVE_DAMAGED"
    assert set((tmp_path / "collections").iterdir()) == folders


@pytest.mark.parametrize("name", ["../escape.json", "/etc/passwd", "items-0.jsonl", "builds/1/ids.json"])
def test_other_files_are_refused_by_name(archive: bytes, name: str) -> None:
    with pytest.raises(InvalidArgument, match="no such file"):
        Archive(io.BytesIO(_packed(_files(archive) | {name: b"{}"})))


def test_a_link_is_refused(archive: bytes) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        link = tarfile.TarInfo("collection.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(InvalidArgument, match="no such file"):
        Archive(io.BytesIO(file.getvalue()))


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None
    return file.read()


def _files(archive: bytes) -> Files:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {name: _read(tar, name) for name in tar.getnames()}


def _packed(files: Files) -> bytes:
    """Return an archive of `files` whose checksums are right."""
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items() if name != "manifest.json"}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in {**files, "manifest.json": json.dumps({"sha256": sums}).encode()}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()
