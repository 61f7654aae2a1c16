from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike_indexer.filters import OneOf
from lookalike_indexer.store import Columns, FieldValues, NewItem, Store, StoredItem
from lookalike_retrieval import normalise
from lookalike_runtime.errors import ResourceExhausted, Unavailable
from tests.indexer.conftest import read_all

FULL = Columns(thumbnail=True, vector=True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "items.db")
    yield store
    store.close()


def write(store: Store, ids: str, start: int = 0) -> NDArray[np.float32]:
    """Write an item for each letter; returns their vectors."""
    vectors = np.random.default_rng(start + len(ids)).standard_normal((len(ids), 4)).astype(np.float32)
    store.upsert([NewItem(each) for each in ids], vectors)
    return vectors


def test_each_write_has_the_next_number_and_its_items_carry_it(store: Store) -> None:
    write(store, "ab")
    write(store, "bc")
    assert store.delete(["a"]) == store.revision() == 3
    _, items = store.get("abc", Columns())
    assert {each: item.revision for each, item in items.items()} == {"b": 2, "c": 2}


def test_changes_since_a_revision_are_what_was_written_and_deleted_after_it(store: Store) -> None:
    write(store, "abcd")
    vectors = write(store, "ea")
    store.delete(["b", "e"])
    rows, deleted = store.changes(1, 4)
    assert rows.ids == ["a"]
    np.testing.assert_array_equal(rows.units, normalise(vectors[1:]))
    assert sorted(deleted) == ["b", "e"]
    write(store, "b")
    assert store.changes(1, 4)[1] == ["e"]
    assert (store.changes(4, 4)[0].ids, store.changes(4, 4)[1]) == ([], [])


def test_a_snapshot_leaves_out_what_is_newer_than_its_revision(store: Store) -> None:
    write(store, "".join(chr(0x4E00 + n) for n in range(2500)))
    write(store, "zy")
    pages = list(store.pages_up_to(1, 4))
    ids = [each for page in pages for each in page.ids]
    assert len(ids) == 2500
    assert ids == sorted(ids)
    assert len(pages) > 2


def test_a_snapshot_holds_up_no_writer(store: Store) -> None:
    write(store, "".join(chr(0x4E00 + n) for n in range(2500)))
    pages = store.pages_up_to(1, 4)
    next(pages)
    write(store, "z")
    store.delete([chr(0x4E00 + 2400)])
    assert sum(len(page.ids) for page in pages) == 2500 - 1024 - 1


def test_all_is_read_from_one_state_ordered_by_id(store: Store) -> None:
    write(store, "cab")
    revision, rows = read_all(store, 4)
    assert (revision, rows.ids) == (1, ["a", "b", "c"])
    np.testing.assert_allclose(np.linalg.norm(rows.units, axis=1), 1, rtol=1e-6)


def test_a_page_ends_with_its_budget_but_has_one_item_at_least(store: Store) -> None:
    store.upsert([NewItem(each, thumbnail=b"t" * 1000) for each in "abc"], np.ones((3, 4), np.float32))
    _, page, more = store.page(None, 10, FULL, budget=10)
    assert ([item.id for item in page], more) == (["a"], True)
    _, page, more = store.page("a", 10, FULL, budget=10_000)
    assert ([item.id for item in page], more) == (["b", "c"], False)
    _, page, more = store.page(None, 2, Columns(), budget=10_000)
    assert ([item.id for item in page], more) == (["a", "b"], True)


def test_a_full_disk_is_refused_and_what_was_acknowledged_stays(store: Store) -> None:
    write(store, "a")
    writer = store._database._writer
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count = {pages + 4}")
    big = [NewItem("b", thumbnail=b"t" * 200_000)]
    with pytest.raises(ResourceExhausted, match="disk is full") as error:
        store.upsert(big, np.ones((1, 4), np.float32))
    assert error.value.reason == "DISK_FULL"
    assert (store.revision(), [item.id for item in store.page(None, 10, FULL, 10**6)[1]]) == (1, ["a"])
    writer.execute("PRAGMA max_page_count = 1000000")
    assert store.upsert(big, np.ones((1, 4), np.float32)) == 2


def test_nothing_of_a_write_that_fails_is_left(store: Store) -> None:
    write(store, "a")
    with pytest.raises(ValueError, match="zip"):
        store.upsert([NewItem("b"), NewItem("c")], np.ones((1, 4), np.float32))
    assert store.revision() == 1
    assert store.get("bc", Columns())[1] == {}
    assert store.delete(["a"]) == 2


def test_a_change_moves_the_item_but_not_its_vector(store: Store) -> None:
    vectors = write(store, "ab")
    _, before = store.get("a", FULL)
    assert store.change([NewItem("a", "boot", payload='{"price": 1.0}')]) == 2
    _, after = store.get("a", FULL)
    assert (after["a"].label, after["a"].payload) == ("boot", '{"price": 1.0}')
    assert (after["a"].revision, after["a"].vector_revision, after["a"].vector) == (2, 1, vectors[0].tobytes())
    assert after["a"].update_time > before["a"].update_time
    assert after["a"].create_time == before["a"].create_time
    assert store.changes(1, 4)[0].ids == []
    assert [page.ids for page in store.pages_up_to(1, 4)] == [["a", "b"]]
    assert store.drift(1) == (2, 2, 0)
    write(store, "bc")
    store.delete(["a"])
    assert store.drift(1) == (4, 2, 3)


def test_a_store_of_the_first_version_is_brought_to_the_present_one(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "items.db")
    old.executescript("""
        CREATE TABLE state (revision INTEGER NOT NULL);
        INSERT INTO state VALUES (3);
        CREATE TABLE item (
            id TEXT NOT NULL UNIQUE, sequence INTEGER NOT NULL, create_time INTEGER NOT NULL, update_time INTEGER NOT NULL,
            label TEXT NOT NULL, uri TEXT NOT NULL, content_sha256 BLOB NOT NULL, payload TEXT NOT NULL,
            vector BLOB NOT NULL, thumbnail BLOB NOT NULL);
        CREATE INDEX item_sequence ON item (sequence);
        CREATE INDEX item_label ON item (label, id);
        CREATE TABLE tombstone (id TEXT PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID;
        CREATE INDEX tombstone_sequence ON tombstone (sequence);
        INSERT INTO tombstone VALUES ('gone', 3);""")
    vector = np.arange(1, 5, dtype=np.float32)
    row = (2, 10, 20, "boot", "uri", b"", '{"x": 1.0}', vector.tobytes(), b"picture")
    old.execute("INSERT INTO item VALUES ('a', ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    old.commit()
    old.close()
    for _ in range(2):
        store = Store(tmp_path / "items.db")
        revision, items = store.get("a", FULL)
        assert (revision, items["a"]) == (3, StoredItem("a", "boot", "uri", b"picture", b"", '{"x": 1.0}', 2, 2, 10, 20, vector.tobytes()))
        assert store.changes(1, 4)[0].ids == ["a"]
        assert store.changes(2, 4)[1] == ["gone"]
        store.close()


def test_half_precision_is_stored_as_it_is_and_read_as_single(store: Store) -> None:
    vectors = np.random.default_rng(1).standard_normal((2, 4)).astype(np.float16)
    store.upsert([NewItem("a"), NewItem("b")], vectors)
    assert store.get("a", FULL)[1]["a"].vector == vectors[0].tobytes()
    expected = normalise(vectors.astype(np.float32))
    for rows in (read_all(store, 4)[1], store.changes(0, 4)[0], *store.pages_up_to(1, 4)):
        assert rows.units.dtype == np.float32
        np.testing.assert_array_equal(rows.units, expected)


def test_a_snapshot_reads_few_wide_vectors_at_once(store: Store) -> None:
    store.upsert([NewItem(str(n)) for n in range(300)], np.ones((300, 16_384), np.float16))
    assert [len(page.ids) for page in store.pages_up_to(1, 16_384)] == [128, 128, 44]


def test_values_are_counted_by_frequency_then_kind_then_order(store: Store) -> None:
    payloads = ['"b"', '"a"', "2.0", "1.0", "true", "false", '"1"', "1.0", '"x\\u0000y"', "null", "{}", "[1]"]
    items = [NewItem(f"{n:02d}", "x" * (n % 3), payload=f'{{"v": {text}}}') for n, text in enumerate(payloads)]
    store.upsert([*items, NewItem("bare")], np.ones((13, 2), np.float32))
    revision, found = store.values(("payload", "v"), None, 100, 10**6)
    assert revision == 1
    assert found.values == [(1.0, 2), (2.0, 1), ("1", 1), ("a", 1), ("b", 1), ("x\0y", 1), (False, 1), (True, 1)]
    assert [type(value) for value, _ in found.values] == [float, float, str, str, str, str, bool, bool]
    assert (found.distinct, found.missing) == (8, 4)
    assert store.values(("payload", "v"), None, 2, 10**6)[1] == FieldValues(found.values[:2], 8, 4)
    assert store.values(("label",), None, 10, 10**6)[1] == FieldValues([("x", 4), ("xx", 4)], 2, 5)
    assert store.values(("label",), OneOf(("payload", "v"), (1.0,)), 10, 10**6)[1] == FieldValues([("x", 1)], 1, 1)
    with pytest.raises(ValueError, match="too much"):
        store.values(("label",), None, 10, 10)


def test_a_wiped_store_holds_no_byte_of_what_was_deleted_and_forgets_that_it_was(tmp_path: Path) -> None:
    store = Store(tmp_path / "items.db")
    # Not every SQLite overwrites what it frees.
    store._database._writer.execute("PRAGMA secure_delete=OFF")
    store.upsert([NewItem(f"secret{n:03d}", thumbnail=b"secret" * 2000) for n in range(50)], np.ones((50, 4), np.float32))
    write(store, "ab")
    store.delete([f"secret{n:03d}" for n in range(50)])
    store.delete(["a"])
    assert store.empty_log()
    assert b"secret" in (tmp_path / "items.db").read_bytes()
    store.wipe(3)
    assert store.empty_log()
    for path in tmp_path.iterdir():
        assert b"secret" not in path.read_bytes()
    # What is newer than the build is still told.
    assert store.changes(3, 4)[1] == ["a"]
    assert store.changes(0, 4)[1] == ["a"]
    assert (store.revision(), store.drift(3)) == (4, (4, 1, 1))
    store.close()
    with pytest.raises(Unavailable):
        store.wipe(4)
