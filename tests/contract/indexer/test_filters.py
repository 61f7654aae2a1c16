from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from lookalike_protos.indexer.v1 import filters_pb2, items_pb2

if TYPE_CHECKING:
    from tests.contract.indexer.conftest import Indexer, Refused

Refuse = Callable[[Callable[[], Any]], "Refused"]
Start = Callable[..., "Indexer"]


def wanted(**kind: Any) -> filters_pb2.Filter:
    return ParseDict(kind, filters_pb2.Filter())


def equals(path: str, **value: Any) -> dict[str, Any]:
    return {"equals": {"path": path, "value": value}}


def fill(indexer: Indexer, name: str) -> None:
    """Write `a` to `d`: prices 1 to 4, labels `label of ID`; `d` alone has a colour, `c` alone is sold."""
    vectors = np.eye(8, dtype=np.float32)
    for place, each in enumerate("abcd"):
        payload = Struct()
        payload.update(
            {"price": place + 1, "shop": {"city": f"city {each}"}, "sold": each == "c", **({"colour": "red"} if each == "d" else {})}
        )
        indexer.upsert(name, [each], vectors[place : place + 1], payload=payload)


def listed(indexer: Indexer, name: str, item_filter: filters_pb2.Filter) -> str:
    """Ids that meet a filter, page by page, one item each."""
    ids, token = "", ""
    while True:
        request = items_pb2.ListItemsRequest(collection=name, filter=item_filter, page_size=1, page_token=token)
        page = indexer.items.ListItems(request)
        ids += "".join(item.id for item in page.items)
        token = page.next_page_token
        if not token:
            return ids


def nested(depth: int) -> filters_pb2.Filter:
    inner = wanted(exists={"path": "id"})
    for _ in range(depth - 1):
        inner = filters_pb2.Filter(negate=inner)
    return inner


@pytest.mark.parametrize(
    ("kind", "ids"),
    [
        (equals("label", text="label of b"), "b"),
        (equals("payload.price", number=2), "b"),
        (equals("payload.price", text="2"), ""),
        (equals("payload.sold", truth=True), "c"),
        (equals("payload.sold", number=1), ""),
        ({"oneOf": {"path": "id", "values": [{"text": "a"}, {"text": "d"}, {"number": 3}]}}, "ad"),
        ({"range": {"path": "payload.price", "above": 1, "atMost": 3}}, "bc"),
        ({"range": {"path": "payload.price", "atLeast": 3}}, "cd"),
        ({"range": {"path": "payload.price", "below": 3}}, "ab"),
        ({"exists": {"path": "payload.colour"}}, "d"),
        ({"negate": equals("payload.colour", text="blue")}, "abcd"),
        ({"prefix": {"path": "payload.shop.city", "prefix": "city c"}}, "c"),
        ({"allOf": {"filters": [{"range": {"path": "payload.price", "above": 1}}, equals("payload.sold", truth=False)]}}, "bd"),
        ({"anyOf": {"filters": [equals("id", text="a"), {"exists": {"path": "payload.colour"}}]}}, "ad"),
    ],
)
def test_every_kind_lists_counts_and_finds_the_same(indexer: Indexer, name: str, kind: dict[str, Any], ids: str) -> None:
    fill(indexer, name)
    item_filter = wanted(**kind)
    assert listed(indexer, name, item_filter) == ids
    counted = indexer.items.CountItems(items_pb2.CountItemsRequest(collection=name, filter=item_filter))
    assert (counted.count, counted.revision, counted.collection) == (len(ids), 4, name)
    found = indexer.found(name, np.ones((1, 8), np.float32), filter=item_filter)
    assert "".join(sorted(found[0])) == ids


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ({}, "filter"),
        ({"allOf": {}}, "filter.all_of.filters"),
        ({"allOf": {"filters": [{"exists": {"path": "id"}}, equals("colour", text="x")]}}, "filter.all_of.filters[1].equals.path"),
        ({"negate": {"anyOf": {"filters": [{}]}}}, "filter.negate.any_of.filters[0]"),
        ({"equals": {"path": "id"}}, "filter.equals.value"),
        ({"equals": {"path": "payload.x", "value": {"number": "NaN"}}}, "filter.equals.value.number"),
        (equals("id", text="é" * 2049), "filter.equals.value.text"),
        ({"oneOf": {"path": "id"}}, "filter.one_of.values"),
        ({"oneOf": {"path": "id", "values": [{"text": "x"}] * 1001}}, "filter.one_of.values[1000]"),
        ({"range": {"path": "payload.x"}}, "filter.range"),
        ({"range": {"path": "payload.x", "below": "Infinity"}}, "filter.range.below"),
        ({"exists": {"path": "payload"}}, "filter.exists.path"),
        ({"exists": {"path": "payload.a..b"}}, "filter.exists.path"),
        ({"exists": {"path": "id.x"}}, "filter.exists.path"),
        ({"exists": {"path": 'payload.a"b'}}, "filter.exists.path"),
        ({"exists": {"path": "payload.a\\b"}}, "filter.exists.path"),
        ({"exists": {"path": "payload.a\nb"}}, "filter.exists.path"),
        ({"exists": {"path": "payload." + "x" * 249}}, "filter.exists.path"),
        ({"prefix": {"path": "id", "prefix": "x" * 4097}}, "filter.prefix.prefix"),
        ({"allOf": {"filters": [{"exists": {"path": "id"}}] * 256}}, "filter.all_of.filters[255]"),
    ],
)
def test_a_wrong_filter_is_refused_by_every_call_with_its_place(
    indexer: Indexer, name: str, refused: Refuse, kind: dict[str, Any], field: str
) -> None:
    item_filter = wanted(**kind)
    for call in (
        lambda: indexer.search(name, np.ones((1, 8), np.float32), filter=item_filter),
        lambda: indexer.items.ListItems(items_pb2.ListItemsRequest(collection=name, filter=item_filter)),
        lambda: indexer.items.CountItems(items_pb2.CountItemsRequest(collection=name, filter=item_filter)),
        lambda: indexer.items.DeleteItems(items_pb2.DeleteItemsRequest(collection=name, filter=item_filter)),
    ):
        told = refused(call)
        assert (told.code, told.reason, told.fields) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", [field])


def test_a_filter_at_its_limits_is_answered(indexer: Indexer, name: str, refused: Refuse) -> None:
    fill(indexer, name)
    assert listed(indexer, name, nested(8)) == ""
    too_deep = items_pb2.CountItemsRequest(collection=name, filter=nested(9))
    assert refused(lambda: indexer.items.CountItems(too_deep)).fields == ["filter" + 8 * ".negate"]
    most_values = [{"text": f"{n}"} for n in range(997)] + [{"text": "b"}, {"number": 1}, {"truth": True}]
    assert listed(indexer, name, wanted(oneOf={"path": "id", "values": most_values})) == "b"
    most_filters = [equals("payload." + "x" * 248, number=1)] * 254 + [equals("payload.price", number=4)]
    assert listed(indexer, name, wanted(anyOf={"filters": most_filters})) == "d"


def test_all_items_are_counted_without_a_filter_and_a_revision_not_reached_is_refused(indexer: Indexer, name: str, refused: Refuse) -> None:
    fill(indexer, name)
    assert indexer.items.CountItems(items_pb2.CountItemsRequest(collection=name, min_revision=4)).count == 4
    early = items_pb2.CountItemsRequest(collection=name, min_revision=5)
    assert refused(lambda: indexer.items.CountItems(early)).reason == "REVISION_NOT_REACHED"
    missing = items_pb2.CountItemsRequest(collection="collections/nobody")
    assert refused(lambda: indexer.items.CountItems(missing)).reason == "COLLECTION_NOT_FOUND"


def test_ids_and_a_filter_together_are_refused(indexer: Indexer, name: str, refused: Refuse) -> None:
    fill(indexer, name)
    both = items_pb2.DeleteItemsRequest(collection=name, ids=["a"], filter=wanted(exists={"path": "id"}))
    assert refused(lambda: indexer.items.DeleteItems(both)).fields == ["filter"]
    assert indexer.ids(name) == ["a", "b", "c", "d"]


def test_a_deletion_by_filter_survives_kill_9_and_no_search_finds_the_items(start: Start) -> None:
    server = start()
    name = server.create("c")
    fill(server, name)
    server.build(name)
    cheap = wanted(range={"path": "payload.price", "below": 3})
    deleted = server.items.DeleteItems(items_pb2.DeleteItemsRequest(collection=name, filter=cheap))
    assert (deleted.deleted_count, deleted.revision) == (2, 5)
    again = server.items.DeleteItems(items_pb2.DeleteItemsRequest(collection=name, filter=cheap))
    assert (again.deleted_count, again.revision) == (0, 5)
    query = np.ones((1, 8), np.float32)
    assert sorted(server.found(name, query)[0]) == ["c", "d"]
    server.kill()
    after = start()
    assert after.ids(name) == sorted(after.found(name, query)[0]) == ["c", "d"]


def test_annoy_with_a_filter_finds_what_a_plain_loop_finds(indexer: Indexer, rng: np.random.Generator) -> None:
    name = indexer.create("filteredannoy", dim=16)
    vectors = rng.standard_normal((3000, 16)).astype(np.float32)
    ids = [f"i{n:04d}" for n in range(3000)]
    for first in range(0, 3000, 500):
        place = Struct()
        place.update({"half": (first // 500) % 2, "part": first // 500})
        indexer.upsert(name, ids[first : first + 500], vectors[first : first + 500], payload=place)
    indexer.build(name, force_engine=True, trees=10)
    queries = rng.standard_normal((20, 16)).astype(np.float32)
    units, unit_queries = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (vectors, queries))
    half = np.repeat(np.arange(6) % 2 == 1, 500)
    few = np.char.startswith(ids, "i001")
    for kind, allowed, effort, exact in (
        (equals("payload.half", number=1), half, {"search_k": 1000}, False),
        ({"prefix": {"path": "id", "prefix": "i001"}}, few, {}, True),
    ):
        scores = np.where(allowed, unit_queries @ units.T, -2)
        best = [{ids[place] for place in order[:10]} for order in np.argsort(-scores, axis=1)]
        answer = indexer.search(name, queries, 10, filter=wanted(**kind), **effort)
        found = [{answer.items[place].id for place in hits.item_indices} for hits in answer.hits]
        assert answer.exact == exact
        recall = np.mean([len(one & other) / 10 for one, other in zip(found, best, strict=True)])
        assert recall == 1 if exact else recall >= 0.9
    fresh = queries[:1]
    indexer.upsert(name, ["new"], fresh)
    assert indexer.found(name, fresh, 1, filter=wanted(**equals("id", text="new"))) == [["new"]]
    assert indexer.found(name, fresh, 1, filter=wanted(**equals("payload.half", number=0))) != [["new"]]


def test_items_far_from_a_query_are_found_though_trees_do_not_lead_there(indexer: Indexer, rng: np.random.Generator) -> None:
    name = indexer.create("farfromquery")
    near = np.ones((2900, 8), np.float32) + 0.1 * rng.standard_normal((2900, 8)).astype(np.float32)
    far = 0.1 * rng.standard_normal((100, 8)).astype(np.float32) - 1
    indexer.upsert(name, [f"near{n:04d}" for n in range(2900)], near)
    indexer.upsert(name, [f"far{n:03d}" for n in range(100)], far)
    indexer.build(name, force_engine=True, trees=5)
    query = np.ones((1, 8), np.float32)
    item_filter = wanted(prefix={"path": "id", "prefix": "far"})
    exact = indexer.found(name, query, 10, exact=True, filter=item_filter)
    assert indexer.found(name, query, 10, search_k=10, filter=item_filter) == exact
