from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from lookalike_indexer.admission import Offer
from lookalike_indexer.collection import OpenCollection
from lookalike_indexer.filters import Exists, Filter
from lookalike_indexer.queries import unit_queries
from lookalike_indexer.store import Columns, NewItem, StoredItem


def test_a_search_for_ids_alone_reads_no_item(collection: OpenCollection, monkeypatch: pytest.MonkeyPatch) -> None:
    collection.upsert([Offer(NewItem("a", "old")), Offer(NewItem("b", "old"))], np.eye(8, dtype=np.float32)[:2])
    monkeypatch.delattr(type(collection.store), "get")
    answer = collection.search(unit_queries(np.eye(8, dtype=np.float32)[:1]), 2, Columns(rest=False))
    assert (answer.found.hits[0].ids, answer.items) == (["a", "b"], {})


@pytest.mark.parametrize("item_filter", [None, Exists(("label",))])
def test_a_search_that_changes_overtake_again_and_again_misses_no_item(
    collection: OpenCollection, monkeypatch: pytest.MonkeyPatch, item_filter: Filter | None
) -> None:
    collection.upsert([Offer(NewItem("a", "old")), Offer(NewItem("b", "old"))], np.eye(8, dtype=np.float32)[:2])
    read = collection.store.get

    def overtaken(ids: Iterable[str], columns: Columns) -> tuple[int, dict[str, StoredItem]]:
        # A writer waits while a search keeps it out.
        if not collection._lock.locked():
            collection._present.renumber(collection.store.change([NewItem("a", "new")]))
        return read(ids, columns)

    monkeypatch.setattr(collection.store, "get", overtaken)
    answer = collection.search(unit_queries(np.eye(8, dtype=np.float32)[:1]), 2, Columns(), item_filter=item_filter)
    assert answer.found.hits[0].ids == ["a", "b"]
    assert answer.items["a"].label == "new"
