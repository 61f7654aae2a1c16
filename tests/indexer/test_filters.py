from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lookalike_indexer.admission import Offer
from lookalike_indexer.candidates import NOTHING_ASKED, Asked, Proposal
from lookalike_indexer.candidates.absent import Absent
from lookalike_indexer.candidates.exact import ExactCandidates
from lookalike_indexer.collection import OpenCollection
from lookalike_indexer.filters import AllOf, AnyOf, Bound, Exists, Filter, Not, OneOf, Prefix, Range
from lookalike_indexer.queries import unit_queries
from lookalike_indexer.search import search
from lookalike_indexer.served_build import ServedBuild
from lookalike_indexer.store import Columns, NewItem, Store
from lookalike_indexer.view import Fresh, View

TEXTS = ["", "1", "a", "ab", "a\0b", "é", "\U0001f600", "true", "'; DROP TABLE item; --", "A", "%", "_"]
NUMBERS = [0.0, -0.0, 1.0, 0.1, 1e300, -2.5, 5e-324, 0.1 + 0.2]
PATHS = [("id",), ("label",), ("uri",), ("payload", "k"), ("payload", "k", "deep"), ("payload", "é' OR 1"), ("payload", "$[0]")]
PAYLOADS = st.none() | st.dictionaries(
    st.sampled_from(["k", "é' OR 1", "$[0]"]),
    st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.sampled_from(TEXTS) | st.just(["a"]) | st.just({"deep": "ab"}) | st.just({}),
)
VALUES = st.booleans() | st.sampled_from(NUMBERS) | st.sampled_from(TEXTS)
BOUNDS = st.none() | st.builds(Bound, st.sampled_from(NUMBERS), st.booleans())
LEAVES = (
    st.builds(OneOf, st.sampled_from(PATHS), st.lists(VALUES, min_size=1, max_size=4).map(tuple))
    | st.builds(Range, st.sampled_from(PATHS), BOUNDS, st.just(Bound(1.0, True)))
    | st.builds(Range, st.sampled_from(PATHS), st.just(Bound(0.1, False)), BOUNDS)
    | st.builds(Exists, st.sampled_from(PATHS))
    | st.builds(Prefix, st.sampled_from(PATHS), st.sampled_from(TEXTS))
)
FILTERS: st.SearchStrategy[Filter] = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(AllOf, st.lists(inner, min_size=1, max_size=3).map(tuple))
        | st.builds(AnyOf, st.lists(inner, min_size=1, max_size=3).map(tuple))
    ),
    max_leaves=6,
)
ITEMS = st.lists(st.tuples(st.sampled_from(TEXTS), st.sampled_from(TEXTS), PAYLOADS), min_size=1, max_size=12)


def field(item: NewItem, path: tuple[str, ...]) -> Any:
    """The value of a field, None where it is missing."""
    if path[0] != "payload":
        return getattr(item, path[0]) or None
    value = json.loads(item.payload) if item.payload else None
    for key in path[1:]:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def same(one: Any, other: Any) -> bool:
    def kind(value: Any) -> type:
        return float if isinstance(value, int) and not isinstance(value, bool) else type(value)

    return kind(one) is kind(other) and bool(one == other)


def meets(item: NewItem, wanted: Filter) -> bool:
    """The meaning of a filter, said plainly."""
    if isinstance(wanted, AllOf):
        return all(meets(item, each) for each in wanted.filters)
    if isinstance(wanted, AnyOf):
        return any(meets(item, each) for each in wanted.filters)
    if isinstance(wanted, Not):
        return not meets(item, wanted.filter)
    value = field(item, wanted.path)
    if isinstance(wanted, OneOf):
        return any(same(value, each) for each in wanted.values)
    if isinstance(wanted, Prefix):
        return isinstance(value, str) and value.encode().startswith(wanted.prefix.encode())
    if isinstance(wanted, Exists):
        return value is not None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    above = wanted.lower is None or value > wanted.lower.value or (wanted.lower.inclusive and value == wanted.lower.value)
    below = wanted.upper is None or value < wanted.upper.value or (wanted.upper.inclusive and value == wanted.upper.value)
    return above and below


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "items.db")
    yield store
    store.close()


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(rows=ITEMS, wanted=FILTERS)
def test_sqlite_finds_what_a_plain_evaluation_finds(store: Store, rows: list[tuple[str, str, Any]], wanted: Filter) -> None:
    store.delete(store.matching(Exists(("id",)))[1])
    items = [
        NewItem(f"{place:02d}", label, uri, payload="" if payload is None else json.dumps(payload, ensure_ascii=False))
        for place, (label, uri, payload) in enumerate(rows)
    ]
    revision = store.upsert(items, np.ones((len(items), 2), np.float32))
    expected = [item.id for item in items if meets(item, wanted)]
    found, ids = store.matching(wanted)
    assert (found, sorted(ids)) == (revision, expected)
    assert store.count(wanted) == (revision, len(expected))
    _, page, more = store.page(None, 5, Columns(), 10**6, wanted)
    assert ([item.id for item in page], more) == (expected[:5], len(expected) > 5)


def test_a_filter_by_label_reads_nothing_but_an_index(store: Store) -> None:
    with store._database.reading() as connection:
        plan = connection.execute("EXPLAIN QUERY PLAN SELECT id FROM item WHERE label IN (?)", ("a",)).fetchall()
    assert "COVERING INDEX item_label" in plan[0][3]


def test_a_filtered_search_sees_the_write_before_it_while_others_write(collection: OpenCollection, monkeypatch: pytest.MonkeyPatch) -> None:
    collection.upsert([Offer(NewItem("a", "x"))], np.ones((1, 8), np.float32))
    read, written = collection.store.matching, 0

    def overtaken(wanted: Filter) -> tuple[int, list[str]]:
        nonlocal written
        if not collection._lock.locked():
            written += 1
            collection.upsert([Offer(NewItem("a", "x")), Offer(NewItem(f"b{written}", "x"))], np.ones((2, 8), np.float32))
        return read(wanted)

    monkeypatch.setattr(collection.store, "matching", overtaken)
    answer = collection.search(unit_queries(np.ones((1, 8), np.float32)), 10, Columns(), item_filter=OneOf(("label",), ("x",)))
    assert answer.found.hits[0].ids == ["a", *(f"b{number + 1}" for number in range(written))]
    assert written > 1


class LastRows:
    """A source that looks at one node and proposes the last `count` rows, whatever is asked."""

    def __init__(self, count: int, total: int) -> None:
        self._rows = np.arange(total - count, total)

    def propose(self, queries: NDArray[np.float32], k: int, absent: Absent, asked: Asked = NOTHING_ASKED) -> Proposal:
        return Proposal([self._rows[~absent.rows[self._rows]]] * len(queries), 1, "annoy")

    def effort(self, queries: int, k: int, absent: Absent, asked: Asked = NOTHING_ASKED) -> int:
        return 1


@pytest.mark.parametrize(("proposed", "trusted"), [(20, True), (19, False)])
def test_a_source_that_finds_less_than_twice_the_hits_among_filtered_items_is_not_trusted(proposed: int, trusted: bool) -> None:
    angles = np.linspace(0, 1, 100)
    units = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    ids = [f"{n:02d}" for n in range(100)]
    rows = {each: row for row, each in enumerate(ids)}
    build = ServedBuild(1, 1, ids, rows, units, LastRows(proposed, 100), ExactCandidates(units))
    view = View(1, build, np.zeros(100, np.bool_), Fresh([], units[:0], np.zeros(0, np.bool_)))
    (hits,) = search(view.only(ids[1:]), units[:1], 10).hits
    assert hits.ids == (ids[80:90] if trusted else ids[1:11])
