"""Changes of items without their vectors, counts of values, half precision, and aliases looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from google.rpc import error_details_pb2

from lookalike_protos.indexer.v1 import collections_pb2, filters_pb2, items_pb2
from lookalike_protos.packing import unpack_vectors
from lookalike_protos.types.v1 import dba_pb2, vectors_pb2

if TYPE_CHECKING:
    from tests.contract.indexer.conftest import Indexer, Refused, Vectors

Refuse = Callable[[Callable[[], Any]], "Refused"]
Start = Callable[..., "Indexer"]
Code = grpc.StatusCode


def vectors_for(count: int, dim: int = 8) -> Vectors:
    return np.random.default_rng(count).standard_normal((count, dim)).astype(np.float32)


def struct(**values: Any) -> Struct:
    made = Struct()
    made.update(values)
    return made


def change(item_id: str, *paths: str, **fields: Any) -> items_pb2.ItemChange:
    return items_pb2.ItemChange(item=items_pb2.Item(id=item_id, **fields), update_mask=FieldMask(paths=paths))


def update(indexer: Indexer, name: str, *changes: items_pb2.ItemChange) -> items_pb2.UpdateItemsResponse:
    return indexer.items.UpdateItems(items_pb2.UpdateItemsRequest(collection=name, changes=changes))


def get(indexer: Indexer, name: str, item_id: str) -> items_pb2.Item:
    request = items_pb2.BatchGetItemsRequest(collection=name, ids=[item_id], view=items_pb2.ITEM_VIEW_FULL)
    (item,) = indexer.items.BatchGetItems(request).items
    return item


def reasons(answer: items_pb2.UpdateItemsResponse) -> dict[int, str]:
    found = {}
    for failure in answer.failures:
        info = error_details_pb2.ErrorInfo()
        assert failure.error.details[0].Unpack(info)
        found[failure.index] = info.reason
    return found


def values(indexer: Indexer, name: str, path: str, **fields: Any) -> items_pb2.CountValuesResponse:
    return indexer.items.CountValues(items_pb2.CountValuesRequest(collection=name, path=path, **fields))


def test_a_change_touches_what_its_mask_names_and_nothing_else(indexer: Indexer, name: str) -> None:
    payload = struct(price=9.5, sold=True, deep={"x": [1, None]})
    indexer.upsert(name, ["a", "b"], vectors_for(2), uri="old", thumbnail=b"picture", content_sha256=b"s" * 32, payload=payload)
    before = get(indexer, name, "a")
    answer = update(
        indexer, name, change("a", "label", "payload.price", "payload.sold", label="boot", uri="ignored", payload=struct(price="much"))
    )
    assert (answer.revision, answer.updated_count, answer.collection) == (2, 1, name)
    after = get(indexer, name, "a")
    assert (after.label, after.uri, after.thumbnail, after.content_sha256) == ("boot", "old", b"picture", b"s" * 32)
    assert MessageToDict(after.payload) == {"price": "much", "deep": {"x": [1, None]}}
    assert (after.revision, after.create_time) == (2, before.create_time)
    assert after.update_time.ToMicroseconds() > before.update_time.ToMicroseconds()
    assert get(indexer, name, "b").revision == 1
    update(indexer, name, change("a", "uri", "thumbnail", "content_sha256", "payload"))
    emptied = get(indexer, name, "a")
    assert (emptied.label, emptied.uri, emptied.thumbnail, emptied.content_sha256) == ("boot", "", b"", b"")
    assert not emptied.HasField("payload")
    update(indexer, name, change("a", "payload.new", payload=struct(new=None)), change("b", "payload", payload=struct(only=1)))
    assert MessageToDict(get(indexer, name, "a").payload) == {"new": None}
    assert MessageToDict(get(indexer, name, "b").payload) == {"only": 1}


def test_a_bad_change_fails_alone_with_its_reason(indexer: Indexer, name: str) -> None:
    indexer.upsert(name, [f"i{n:02d}" for n in range(12)], vectors_for(12), payload=struct(kept="k" * 40_000))
    answer = update(
        indexer,
        name,
        change("i00", "label", label="new"),
        change("nobody", "label"),
        change("i00", "uri"),
        change("i01"),
        change("i02", "vector"),
        change("i03", "payload.a.b"),
        change("i04", "payload", "payload.x"),
        change("i05", "label", label="l" * 513),
        change("i06", "payload.more", payload=struct(more="m" * 30_000)),
        change("i07", "payload.x", payload=struct(x=float("nan"))),
        change("i08", "content_sha256", content_sha256=b"short"),
        change("i09", *(f"payload.k{n}" for n in range(65))),
    )
    assert reasons(answer) == {
        1: "ITEM_NOT_FOUND", 2: "DUPLICATE_ID", 3: "INVALID_FIELD", 4: "INVALID_FIELD", 5: "INVALID_FIELD", 6: "INVALID_FIELD",
        7: "TOO_LARGE", 8: "TOO_LARGE", 9: "NOT_FINITE", 10: "INVALID_FIELD", 11: "INVALID_FIELD",
    }  # fmt: skip
    assert (answer.updated_count, answer.revision) == (1, 2)
    assert answer.failures[0].error.code == Code.NOT_FOUND.value[0]
    assert get(indexer, name, "i00").label == "new"
    assert get(indexer, name, "i06").revision == 1
    nothing = update(indexer, name, change("nobody", "label"))
    assert (nothing.updated_count, nothing.revision) == (0, 2)


def test_changes_beyond_their_limits_are_refused(indexer: Indexer, name: str, refused: Refuse) -> None:
    assert refused(lambda: update(indexer, name)).fields == ["changes"]
    assert refused(lambda: update(indexer, name, *[change("a", "label")] * 1001)).fields == ["changes"]
    assert refused(lambda: update(indexer, "collections/nobody", change("a", "label"))).reason == "COLLECTION_NOT_FOUND"


def test_a_changed_item_keeps_its_augmented_place_in_the_build_even_after_a_restart(start: Start) -> None:
    server = start()
    name = server.create("c", dba=dba_pb2.DbaSpec(k=2))
    ids, vectors = [f"i{n}" for n in range(30)], vectors_for(30)
    server.upsert(name, ids, vectors)
    server.build(name)
    before = server.search(name, vectors[:1], 30)
    update(server, name, change("i0", "label", label="boot"))
    for _ in range(2):
        after = server.search(name, vectors[:1], 30)
        assert not any(after.hits[0].fresh)
        assert list(after.hits[0].scores) == list(before.hits[0].scores)
        assert {item.id: item.label for item in after.items}["i0"] == "boot"
        assert after.revision == 2
        boots = filters_pb2.Filter(equals=filters_pb2.FieldEquals(path="label", value=filters_pb2.FilterValue(text="boot")))
        assert server.found(name, vectors[:1], 30, filter=boots) == [["i0"]]
        assert server.collections.GetCollection(collections_pb2.GetCollectionRequest(name=name)).fresh_item_count == 0
        server.kill()
        server = start()
    update(server, name, change("i1", "label", label="boot"))
    assert server.build(name).report.item_count == 30


def test_searches_beside_changes_miss_no_item(indexer: Indexer, name: str) -> None:
    ids, vectors = [f"i{n}" for n in range(20)], vectors_for(20)
    indexer.upsert(name, ids, vectors)
    changes = [change(each, "payload.n", payload=struct(n=1)) for each in ids]
    for _ in range(20):
        pending = indexer.items.UpdateItems.future(items_pb2.UpdateItemsRequest(collection=name, changes=changes))
        while not pending.done():
            assert sorted(indexer.found(name, vectors[:1], 20)[0]) == sorted(ids)


def test_values_are_counted_under_a_filter_and_up_to_a_limit(indexer: Indexer, name: str, refused: Refuse) -> None:
    for label, count in (("a", 3), ("b", 1), ("", 2)):
        ids = [f"{label}{n}" for n in range(count)]
        indexer.upsert(name, ids, vectors_for(count))
        update(indexer, name, *(change(each, "label", "payload", label=label, payload=struct(size=count, ok=True)) for each in ids))
    answer = values(indexer, name, "label")
    assert [(each.value.text, each.count) for each in answer.values] == [("a", 3), ("b", 1)]
    assert (answer.distinct_count, answer.missing_count, answer.revision, answer.collection) == (2, 2, 6, name)
    limited = values(indexer, name, "payload.size", limit=1)
    assert [(each.value.number, each.count) for each in limited.values] == [(3.0, 3)]
    assert limited.distinct_count == 3
    exists = filters_pb2.Filter(exists=filters_pb2.FieldExists(path="label"))
    (truth,) = values(indexer, name, "payload.ok", filter=exists).values
    assert (truth.value.truth, truth.count) == (True, 4)
    assert values(indexer, name, "payload.nothing").missing_count == 6
    for wrong in ("id", "vector", "payload", 'payload.a"b', ""):
        assert refused(lambda wrong=wrong: values(indexer, name, wrong)).fields == ["path"]  # type: ignore[misc]
    assert refused(lambda: values(indexer, name, "label", limit=10_001)).fields == ["limit"]
    assert refused(lambda: values(indexer, name, "label", min_revision=7)).reason == "REVISION_NOT_REACHED"


def test_values_that_do_not_fit_into_one_answer_are_refused(indexer: Indexer, name: str, refused: Refuse) -> None:
    for start in range(0, 4000, 500):
        ids = [f"i{n}" for n in range(start, start + 500)]
        indexer.upsert(name, ids, vectors_for(500))
        update(indexer, name, *(change(each, "uri", uri=each + "u" * 4000) for each in ids))
    told = refused(lambda: values(indexer, name, "uri", limit=4000))
    assert told.fields == ["limit"]
    answer = values(indexer, name, "uri", limit=1000)
    assert (len(answer.values), answer.distinct_count) == (1000, 4000)


def test_a_half_precision_collection_rounds_what_is_written_and_gives_it_back_so(start: Start) -> None:
    server = start()
    name = server.create("half", dtype=vectors_pb2.D_TYPE_FLOAT16)
    assert server.collections.GetCollection(collections_pb2.GetCollectionRequest(name=name)).dtype == vectors_pb2.D_TYPE_FLOAT16
    vectors = 100 * vectors_for(40)
    server.upsert(name, [f"i{n:02d}" for n in range(40)], vectors)
    rounded = vectors.astype(np.float16)
    listing = items_pb2.ListItemsRequest(collection=name, view=items_pb2.ITEM_VIEW_VECTOR)
    scores = []
    for built in (False, True):
        if built:
            server.build(name, force_engine=True)
        batch = server.items.ListItems(listing).vectors
        assert (batch.dtype, batch.data) == (vectors_pb2.D_TYPE_FLOAT16, rounded.tobytes())
        scores.append(list(server.search(name, vectors[:1], 40, exact=True).hits[0].scores))
        server.kill()
        server = start()
        scores.append(list(server.search(name, vectors[:1], 40, exact=True).hits[0].scores))
    # Fresh, restarted, built, restarted: the same numbers throughout.
    assert all(each == scores[0] for each in scores)
    units = rounded.astype(np.float32) / np.linalg.norm(rounded.astype(np.float32), axis=1, keepdims=True)
    expected = np.sort(units @ (vectors[0] / np.linalg.norm(vectors[0])))[::-1]
    np.testing.assert_allclose(scores[0], expected, atol=1e-5)


def test_what_half_precision_cannot_hold_is_refused_alone(indexer: Indexer, refused: Refuse) -> None:
    name = indexer.create("narrow", dtype=vectors_pb2.D_TYPE_FLOAT16)
    vectors = vectors_for(4)
    vectors[1, 2], vectors[2] = 1e6, 1e-9
    (answer,) = indexer.upsert(name, list("abcd"), vectors)
    assert [failure.index for failure in answer.failures] == [1, 2]
    assert "rounds to infinity" in answer.failures[0].error.message
    assert "rounds to zero" in answer.failures[1].error.message
    half = indexer.chunk(["e"], vectors[:1])
    half.chunk.vectors.MergeFrom(vectors_pb2.VectorBatch(data=vectors[0].astype("<f2").tobytes(), dtype=vectors_pb2.D_TYPE_FLOAT16))
    (taken,) = indexer.items.UpsertItems(iter([items_pb2.UpsertItemsRequest(collection=name), half]))
    assert taken.kept_count == 1
    read = indexer.items.BatchGetItems(items_pb2.BatchGetItemsRequest(collection=name, ids=["a", "e"], view=items_pb2.ITEM_VIEW_VECTOR))
    np.testing.assert_array_equal(*unpack_vectors(read.vectors))
    assert refused(lambda: indexer.create("odd", dtype=7)).fields == ["collection.dtype"]


def test_an_alias_can_be_looked_at(indexer: Indexer, name: str, refused: Refuse) -> None:
    alias = collections_pb2.Alias(collection=name)
    made = indexer.collections.CreateAlias(collections_pb2.CreateAliasRequest(alias_id="looked-at", alias=alias))
    assert indexer.collections.GetAlias(collections_pb2.GetAliasRequest(name="aliases/looked-at")) == made
    told = refused(lambda: indexer.collections.GetAlias(collections_pb2.GetAliasRequest(name="aliases/nobody")))
    assert (told.code, told.reason) == (Code.NOT_FOUND, "ALIAS_NOT_FOUND")
    assert refused(lambda: indexer.collections.GetAlias(collections_pb2.GetAliasRequest(name=name))).fields == ["name"]


@pytest.mark.parametrize("path", ["label", "uri", "payload.k"])
def test_changes_reach_filters_and_counts_at_once(indexer: Indexer, name: str, path: str) -> None:
    indexer.upsert(name, ["a", "b"], vectors_for(2))
    update(indexer, name, change("a", path, label="new", uri="new", payload=struct(k="new")))
    wanted = filters_pb2.Filter(equals=filters_pb2.FieldEquals(path=path, value=filters_pb2.FilterValue(text="new")))
    assert indexer.items.CountItems(items_pb2.CountItemsRequest(collection=name, filter=wanted)).count == 1
    assert indexer.found(name, vectors_for(2)[1:], 10, filter=wanted) == [["a"]]
