from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike_indexer.store import Columns, NewItem, Store
from lookalike_retrieval import normalise
from lookalike_runtime.errors import ResourceExhausted

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
    revision, rows = store.read_all(4)
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
