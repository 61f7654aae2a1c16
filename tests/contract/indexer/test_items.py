from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from google.protobuf.struct_pb2 import Struct
from google.rpc import error_details_pb2

from lookalike_protos.indexer.v1 import items_pb2, search_pb2
from lookalike_protos.packing import pack_vectors, unpack_vectors
from lookalike_protos.types.v1 import space_pb2, vectors_pb2

if TYPE_CHECKING:
    from tests.contract.indexer.conftest import Indexer, Refused, Vectors

Refuse = Callable[[Callable[[], Any]], "Refused"]
Code = grpc.StatusCode


def reasons(answer: items_pb2.UpsertItemsResponse) -> dict[int, str]:
    found = {}
    for failure in answer.failures:
        info = error_details_pb2.ErrorInfo()
        assert failure.error.details[0].Unpack(info)
        found[failure.index] = info.reason
    return found


def vectors_for(count: int, dim: int = 8) -> Vectors:
    return np.random.default_rng(count).standard_normal((count, dim)).astype(np.float32)


def get(
    indexer: Indexer, name: str, ids: list[str], view: items_pb2.ItemView.ValueType = items_pb2.ITEM_VIEW_BASIC, min_revision: int = 0
) -> items_pb2.BatchGetItemsResponse:
    request = items_pb2.BatchGetItemsRequest(collection=name, ids=ids, view=view, min_revision=min_revision)
    return indexer.items.BatchGetItems(request)


def send(indexer: Indexer, name: str, *chunks: items_pb2.UpsertItemsRequest) -> list[items_pb2.UpsertItemsResponse]:
    return list(indexer.items.UpsertItems(iter([items_pb2.UpsertItemsRequest(collection=name), *chunks])))


def test_an_item_comes_back_as_it_was_written_with_its_raw_vector(indexer: Indexer, name: str) -> None:
    payload = Struct()
    payload.update({"price": 9.5, "tags": ["a", None, True], "deep": {"x": "ü"}})
    vectors = 3 * vectors_for(1)
    indexer.upsert(name, ["shoe/1.jpg"], vectors, uri="pictures/1.jpg", thumbnail=b"picture", content_sha256=b"s" * 32, payload=payload)
    answer = get(indexer, name, ["nobody", "shoe/1.jpg"], items_pb2.ITEM_VIEW_FULL)
    (item,) = answer.items
    assert (item.id, item.label, item.uri) == ("shoe/1.jpg", "label of shoe/1.jpg", "pictures/1.jpg")
    assert (item.thumbnail, item.content_sha256, item.payload) == (b"picture", b"s" * 32, payload)
    assert item.revision == answer.revision == 1
    assert item.create_time == item.update_time
    np.testing.assert_array_equal(unpack_vectors(answer.vectors), vectors)
    assert list(answer.missing_ids) == ["nobody"]


@pytest.mark.parametrize(
    ("view", "thumbnail", "vector"),
    [
        (items_pb2.ITEM_VIEW_UNSPECIFIED, False, False),
        (items_pb2.ITEM_VIEW_BASIC, False, False),
        (items_pb2.ITEM_VIEW_THUMBNAIL, True, False),
        (items_pb2.ITEM_VIEW_VECTOR, False, True),
        (items_pb2.ITEM_VIEW_FULL, True, True),
        (items_pb2.ITEM_VIEW_ID, False, False),
    ],
)
def test_a_view_holds_what_it_says(indexer: Indexer, name: str, view: items_pb2.ItemView.ValueType, thumbnail: bool, vector: bool) -> None:
    indexer.upsert(name, ["a"], vectors_for(1), thumbnail=b"picture")
    read = get(indexer, name, ["a"], view)
    listed = indexer.items.ListItems(items_pb2.ListItemsRequest(collection=name, view=view))
    searched = indexer.search(name, vectors_for(1), view=view)
    for answer in (read, listed, searched):
        assert bool(answer.items[0].thumbnail) == thumbnail
        assert answer.HasField("vectors") == vector


def test_ids_come_alone_where_nothing_else_is_asked_for(indexer: Indexer, name: str) -> None:
    ids = ["a", "b"]
    indexer.upsert(name, ids, vectors_for(2), thumbnail=b"picture", uri="pictures/1.jpg")
    alone = [items_pb2.Item(id=each) for each in ids]
    assert list(get(indexer, name, ids, items_pb2.ITEM_VIEW_ID).items) == alone
    assert list(indexer.items.ListItems(items_pb2.ListItemsRequest(collection=name, view=items_pb2.ITEM_VIEW_ID)).items) == alone
    whole, found = (indexer.search(name, vectors_for(2), 2, view=view) for view in (items_pb2.ITEM_VIEW_BASIC, items_pb2.ITEM_VIEW_ID))
    assert found.hits == whole.hits
    assert list(found.items) == [items_pb2.Item(id=each.id) for each in whole.items]


def test_a_replaced_item_is_new_but_for_the_time_it_was_made(indexer: Indexer, name: str) -> None:
    indexer.upsert(name, ["a"], vectors_for(1), uri="old")
    before = get(indexer, name, ["a"]).items[0]
    indexer.upsert(name, ["a"], vectors_for(2)[1:])
    after = get(indexer, name, ["a"]).items[0]
    assert (after.uri, after.revision) == ("", 2)
    assert after.create_time == before.create_time
    assert after.update_time.ToMicroseconds() > before.update_time.ToMicroseconds()


def test_a_bad_item_fails_alone_with_its_reason(indexer: Indexer, name: str) -> None:
    vectors = vectors_for(12)
    vectors[1], vectors[2, 3], vectors[3, 0] = 0, np.nan, np.inf
    chunk = indexer.chunk([f"i{n:02d}" for n in range(12)], vectors)
    items = chunk.chunk.items
    items[4].id = ""
    items[5].id = "ü" * 257
    items[6].id = "i00"
    items[7].thumbnail = b"t" * (32 * 1024 + 1)
    items[8].payload.update({"text": "p" * 64 * 1024})
    items[9].label = "l" * 513
    items[10].uri = "u" * 4097
    items[11].payload.update({"number": float("nan")})
    (answer,) = send(indexer, name, chunk)
    assert reasons(answer) == {
        1: "ZERO_VECTOR", 2: "NOT_FINITE", 3: "NOT_FINITE", 4: "INVALID_ID", 5: "INVALID_ID", 6: "DUPLICATE_ID",
        7: "TOO_LARGE", 8: "TOO_LARGE", 9: "TOO_LARGE", 10: "TOO_LARGE", 11: "NOT_FINITE",
    }  # fmt: skip
    assert (answer.kept_count, answer.revision) == (1, 1)
    assert indexer.ids(name) == ["i00"]
    np.testing.assert_array_equal(unpack_vectors(get(indexer, name, ["i00"], items_pb2.ITEM_VIEW_VECTOR).vectors)[0], vectors[0])


def test_what_is_just_within_the_limits_is_kept(indexer: Indexer, name: str) -> None:
    chunk = indexer.chunk(["ü" * 256], vectors_for(1), thumbnail=b"t" * 32 * 1024, label="l" * 512, uri="u" * 4096)
    (answer,) = send(indexer, name, chunk)
    assert answer.kept_count == 1


def test_a_chunk_of_nothing_but_bad_items_is_no_write(indexer: Indexer, name: str) -> None:
    (answer,) = indexer.upsert(name, ["a"], np.zeros((1, 8), np.float32))
    assert (answer.kept_count, answer.revision) == (0, 0)


def test_vectors_of_another_space_are_refused_naming_both(indexer: Indexer, name: str, refused: Refuse) -> None:
    chunk = indexer.chunk(["a"], vectors_for(1))
    chunk.chunk.vectors.space.fingerprint = "ls1:" + "b" * 64
    told = refused(lambda: send(indexer, name, chunk))
    assert (told.code, told.reason) == (Code.FAILED_PRECONDITION, "SPACE_MISMATCH")
    assert "a" * 64 in told.message
    assert "b" * 64 in told.message
    queries = chunk.chunk.vectors
    told = refused(lambda: indexer.searches.Search(search_pb2.SearchRequest(collection=name, queries=queries, k=1)))
    assert (told.code, told.reason) == (Code.FAILED_PRECONDITION, "SPACE_MISMATCH")
    wider = refused(lambda: indexer.upsert(name, ["a"], vectors_for(1, 16)))
    assert wider.reason == "SPACE_MISMATCH"


def test_a_chunk_beyond_its_limits_is_refused_and_what_came_before_is_kept(indexer: Indexer, name: str, refused: Refuse) -> None:
    good = indexer.chunk(["good"], vectors_for(1))
    thousand_and_one = indexer.chunk([f"i{n}" for n in range(1001)], vectors_for(1001))
    assert refused(lambda: send(indexer, name, good, thousand_and_one)).fields == ["chunk.items"]
    assert indexer.ids(name) == ["good"]
    assert refused(lambda: send(indexer, name, indexer.chunk([], vectors_for(0)))).fields == ["chunk.items"]
    fewer_rows = indexer.chunk(["a", "b"], vectors_for(2))
    fewer_rows.chunk.vectors.data = fewer_rows.chunk.vectors.data[:32]
    assert refused(lambda: send(indexer, name, fewer_rows)).fields == ["chunk.vectors"]
    no_space = indexer.chunk(["a"], vectors_for(1))
    no_space.chunk.vectors.ClearField("space")
    assert refused(lambda: send(indexer, name, no_space)).fields == ["chunk.vectors.space.fingerprint"]
    no_dtype = indexer.chunk(["a"], vectors_for(1))
    no_dtype.chunk.vectors.dtype = vectors_pb2.D_TYPE_UNSPECIFIED
    assert refused(lambda: send(indexer, name, no_dtype)).fields == ["chunk.vectors.dtype"]


def test_vectors_over_two_mebibytes_are_refused(indexer: Indexer, refused: Refuse) -> None:
    wide = indexer.create("wide", dim=1024)
    chunk = indexer.chunk([f"i{n}" for n in range(513)], vectors_for(513, 1024))
    told = refused(lambda: send(indexer, wide, chunk))
    assert told.fields == ["chunk.vectors.data"]
    # What would not fit into one answer is refused as well, or comes in smaller pages.
    ids = [f"i{n:03d}" for n in range(600)]
    indexer.upsert(wide, ids, vectors_for(600, 1024))
    assert refused(lambda: get(indexer, wide, ids, items_pb2.ITEM_VIEW_VECTOR)).fields == ["view"]
    page = indexer.items.ListItems(items_pb2.ListItemsRequest(collection=wide, page_size=1000, view=items_pb2.ITEM_VIEW_VECTOR))
    assert len(page.items) == len(unpack_vectors(page.vectors)) == 512
    assert page.next_page_token


def test_a_message_over_the_limit_is_refused_and_the_server_goes_on(indexer: Indexer, name: str) -> None:
    chunk = indexer.chunk(["a"], vectors_for(1), thumbnail=b"t" * (16 * 1024 * 1024))
    with pytest.raises(grpc.RpcError) as error:
        send(indexer, name, chunk)
    assert error.value.code() == Code.RESOURCE_EXHAUSTED
    assert indexer.ids(name) == []


def test_half_precision_vectors_are_taken(indexer: Indexer, name: str) -> None:
    chunk = indexer.chunk(["a"], vectors_for(1))
    half = vectors_for(1).astype("<f2")
    chunk.chunk.vectors.MergeFrom(vectors_pb2.VectorBatch(data=half.tobytes(), dtype=vectors_pb2.D_TYPE_FLOAT16))
    assert send(indexer, name, chunk)[0].kept_count == 1
    raw = unpack_vectors(get(indexer, name, ["a"], items_pb2.ITEM_VIEW_VECTOR).vectors)
    np.testing.assert_array_equal(raw, half.astype(np.float32))


def test_a_stream_begins_with_its_collection_and_then_has_chunks(indexer: Indexer, name: str, refused: Refuse) -> None:
    chunk, start = indexer.chunk(["a"], vectors_for(1)), items_pb2.UpsertItemsRequest(collection=name)
    assert refused(lambda: indexer.items.UpsertItems(iter([chunk]))).fields == ["message"]
    assert refused(lambda: indexer.items.UpsertItems(iter([start, start]))).fields == ["message"]
    missing = items_pb2.UpsertItemsRequest(collection="collections/nobody")
    assert refused(lambda: indexer.items.UpsertItems(iter([missing, chunk]))).reason == "COLLECTION_NOT_FOUND"


def test_deleting_counts_what_was_there_and_ids_that_are_not_there_are_no_error(indexer: Indexer, name: str) -> None:
    indexer.upsert(name, ["a", "b"], vectors_for(2))
    answer = indexer.delete(name, ["a", "a", "nobody"])
    assert (answer.deleted_count, answer.revision) == (1, 2)
    again = indexer.delete(name, ["a"])
    assert (again.deleted_count, again.revision) == (0, 2)
    assert indexer.ids(name) == ["b"]
    assert list(get(indexer, name, ["a"]).missing_ids) == ["a"]


def test_ids_beyond_their_limits_are_refused(indexer: Indexer, name: str, refused: Refuse) -> None:
    assert refused(lambda: indexer.delete(name, [])).fields == ["ids"]
    assert refused(lambda: indexer.delete(name, ["x"] * 10_001)).fields == ["ids"]
    assert refused(lambda: get(indexer, name, [])).fields == ["ids"]
    assert refused(lambda: get(indexer, name, ["x"] * 1_001)).fields == ["ids"]


def test_pages_of_items_are_ordered_bytewise_and_neither_repeat_nor_skip(indexer: Indexer, name: str) -> None:
    ids = ["Z", "a", "a/b", "ab", "é", "\U0001f600", "\uffff", " "]
    indexer.upsert(name, ids, vectors_for(len(ids)))
    seen: list[str] = []
    token = ""
    while True:
        page = indexer.items.ListItems(items_pb2.ListItemsRequest(collection=name, page_size=3, page_token=token))
        seen += [item.id for item in page.items]
        token = page.next_page_token
        if not token:
            break
    assert seen == sorted(ids, key=str.encode)


def test_a_page_stays_under_the_limit_of_a_message(indexer: Indexer, name: str) -> None:
    ids = [f"i{n:03d}" for n in range(450)]
    indexer.upsert(name, ids, vectors_for(450), thumbnail=b"t" * 32 * 1024)
    request = items_pb2.ListItemsRequest(collection=name, page_size=450, view=items_pb2.ITEM_VIEW_THUMBNAIL)
    page = indexer.items.ListItems(request)
    assert 300 < len(page.items) < 450
    request.page_token = page.next_page_token
    assert len(page.items) + len(indexer.items.ListItems(request).items) == 450


def test_a_revision_that_was_not_reached_is_refused(indexer: Indexer, name: str, refused: Refuse) -> None:
    indexer.upsert(name, ["a"], vectors_for(1))
    assert get(indexer, name, ["a"], min_revision=1).revision == 1
    told = refused(lambda: get(indexer, name, ["a"], min_revision=2))
    assert (told.code, told.reason) == (Code.FAILED_PRECONDITION, "REVISION_NOT_REACHED")
    listing = items_pb2.ListItemsRequest(collection=name, min_revision=2)
    assert refused(lambda: indexer.items.ListItems(listing)).reason == "REVISION_NOT_REACHED"
    assert refused(lambda: indexer.search(name, vectors_for(1), min_revision=2)).reason == "REVISION_NOT_REACHED"


def test_packing_is_what_the_protos_say() -> None:
    batch = pack_vectors(np.ones((1, 2), np.float32), space_pb2.Space(dim=2))
    assert batch.data == b"\x00\x00\x80\x3f" * 2
