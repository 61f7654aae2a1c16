"""Searches out of messages, with the checks of the limits that the proto states, and their answers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from lookalike_indexer.admission import MAX_ID_BYTES
from lookalike_indexer.answer import Answer, Options
from lookalike_indexer.candidates import NOTHING_ASKED, Asked
from lookalike_indexer.collection import OpenCollection
from lookalike_indexer.expansion import Expansion
from lookalike_indexer.filters import Filter
from lookalike_indexer.queries import Combine, Pictures
from lookalike_indexer.records import Space
from lookalike_indexer.search import Hits
from lookalike_indexer.servicers.filter_messages import filter_in
from lookalike_indexer.servicers.item_messages import batch_message, columns_of, item_message, require_bytes, require_room
from lookalike_indexer.servicers.translate import SOURCES, build_name, collection_name, in_range, plan_message, vectors_of
from lookalike_indexer.store import BYTES_BESIDE, Columns, StoredItem
from lookalike_protos.indexer.v1 import search_pb2
from lookalike_runtime.errors import invalid_field

MAX_K = 1_000
MAX_QUERIES = 256
MAX_QUERY_PICTURES = 32
MAX_SEARCH_K = 10_000_000
MAX_EXPANSION_K = 100
MAX_ALPHA = 20
MAX_EXPLAINED_QUERIES = 16
MAX_EXPLAINED_K = 100

COMBINES: Final[dict[search_pb2.Combine.ValueType, Combine]] = {
    search_pb2.COMBINE_UNSPECIFIED: "mean",
    search_pb2.COMBINE_MEAN: "mean",
    search_pb2.COMBINE_BEST: "best",
}


class Request(NamedTuple):
    """What a request says, as far as it can be told without its collection."""

    k: int
    columns: Columns
    exact: bool
    asked: Asked
    options: Options
    min_revision: int
    item_filter: Filter | None


def read_request(message: search_pb2.SearchRequest) -> Request:
    """Return what a request says beside its pictures; raises InvalidArgument naming what is wrong in it."""
    in_range("k", message.k, 1, MAX_K)
    exact, asked = _effort(message)
    options = Options(_min_score(message), _expansion(message), message.group_by_label)
    return Request(message.k, columns_of(message.view), exact, asked, options, message.min_revision, filter_in(message))


def pictures_of(message: search_pb2.SearchRequest, collection: OpenCollection) -> Pictures:
    """Return what the queries are made of.

    Raises InvalidArgument naming what is wrong in it, FailedPrecondition for vectors of another space than the collection's.
    """
    vectors, ids = None, tuple(message.item_ids)
    if ids:
        _check_ids(message)
    elif message.HasField("queries"):
        vectors = vectors_of("queries", message.queries, collection.space, f"collection {collection.name!r}")
        in_range("queries", len(vectors), 1, MAX_QUERIES)
    else:
        raise invalid_field("queries", "neither it nor item_ids is set: send one of them")
    pictures = Pictures(vectors, ids, tuple(message.query_sizes), _combine(message))
    _check_sizes(pictures, len(ids) if vectors is None else len(vectors))
    if message.explain:
        _check_explain(message, pictures)
    return pictures


def response_message(collection: OpenCollection, answer: Answer, columns: Columns) -> search_pb2.SearchResponse:
    build = answer.view.build
    response = search_pb2.SearchResponse(
        collection=collection_name(collection.name),
        revision=answer.view.revision,
        build=build_name(collection.name, build.number) if build else "",
        exact=answer.found.exact,
        source=SOURCES[answer.found.source],
        search_k=answer.found.search_k,
        plan=plan_message(answer.found.entry) if answer.found.entry else None,
    )
    places: dict[str, int] = {}
    for each in answer.found.hits:
        _add_hits(response, each, places)
    if columns.rest:
        _add_items(response, [answer.items[each] for each in places], columns, collection.space)
    else:
        _add_ids(response, places)
    return response


def _add_hits(response: search_pb2.SearchResponse, hits: Hits, places: dict[str, int]) -> None:
    """Add hits in columns; an item that no hit before was gets the next place."""
    indices = [places.setdefault(each, len(places)) for each in hits.ids]
    response.hits.add(item_indices=indices, scores=hits.scores, fresh=hits.fresh, augmented=hits.augmented)


def _add_items(response: search_pb2.SearchResponse, items: Sequence[StoredItem], columns: Columns, space: Space) -> None:
    require_room(items, columns, space)
    response.items.extend(map(item_message, items))
    if columns.vector:
        response.vectors.CopyFrom(batch_message(items, space))


def _add_ids(response: search_pb2.SearchResponse, ids: Collection[str]) -> None:
    require_bytes(len(ids), len("".join(ids).encode()) + BYTES_BESIDE * len(ids))
    for each in ids:
        response.items.add(id=each)


def _check_ids(message: search_pb2.SearchRequest) -> None:
    if message.HasField("queries"):
        raise invalid_field("item_ids", f"{len(message.item_ids)} were sent beside queries: send either")
    in_range("item_ids", len(message.item_ids), 1, MAX_QUERIES)
    for place, each in enumerate(message.item_ids):
        if not 1 <= len(each.encode()) <= MAX_ID_BYTES:
            raise invalid_field(f"item_ids[{place}]", f"{each[:40]!r} has {len(each.encode())} bytes: 1 to {MAX_ID_BYTES}")


def _check_sizes(pictures: Pictures, count: int) -> None:
    for place, size in enumerate(pictures.sizes):
        in_range(f"query_sizes[{place}]", size, 1, MAX_QUERY_PICTURES)
    if pictures.sizes and sum(pictures.sizes) != count:
        what = "item_ids" if pictures.item_ids else "queries"
        raise invalid_field("query_sizes", f"they add up to {sum(pictures.sizes)}, but {count} {what} were sent")


def _check_explain(message: search_pb2.SearchRequest, pictures: Pictures) -> None:
    queries = len(pictures.sizes or pictures.item_ids) or (0 if pictures.vectors is None else len(pictures.vectors))
    if pictures.combine == "best":
        raise invalid_field("explain", "it does not go with COMBINE_BEST, where no single vector is the query: use COMBINE_MEAN")
    if queries > MAX_EXPLAINED_QUERIES:
        raise invalid_field("explain", f"{queries} queries were sent: at most {MAX_EXPLAINED_QUERIES} can be explained at once")
    if message.k > MAX_EXPLAINED_K:
        raise invalid_field("explain", f"k is {message.k}: at most {MAX_EXPLAINED_K} hits a query can be explained at once")


def _combine(message: search_pb2.SearchRequest) -> Combine:
    combine = COMBINES.get(message.combine)
    if combine is None:
        raise invalid_field("combine", f"{message.combine} is unknown: send COMBINE_MEAN or COMBINE_BEST")
    return combine


def _effort(message: search_pb2.SearchRequest) -> tuple[bool, Asked]:
    """Return whether to search exactly, and what else is asked for."""
    match message.WhichOneof("effort"):
        case "search_k":
            return False, Asked(search_k=in_range("search_k", message.search_k, 1, MAX_SEARCH_K))
        case "recall":
            if not 0 < message.recall < 1:
                raise invalid_field("recall", f"{message.recall:g} is out of range: over 0 to below 1; `exact` finds all")
            return False, Asked(recall=message.recall)
        case "exact" if not message.exact:
            raise invalid_field("exact", "it must be true if set: leave it out for the effort that the build chose")
        case which:
            return which == "exact", NOTHING_ASKED


def _min_score(message: search_pb2.SearchRequest) -> float | None:
    if not message.HasField("min_score"):
        return None
    if not -1 <= message.min_score <= 1:
        raise invalid_field("min_score", f"{message.min_score:g} is out of range: a cosine is −1 to 1")
    return message.min_score


def _expansion(message: search_pb2.SearchRequest) -> Expansion | None:
    if not message.HasField("expansion"):
        return None
    in_range("expansion.k", message.expansion.k, 1, MAX_EXPANSION_K)
    if not 0 <= message.expansion.alpha <= MAX_ALPHA:
        raise invalid_field("expansion.alpha", f"{message.expansion.alpha:g} is out of range: 0 to {MAX_ALPHA}")
    return Expansion(message.expansion.k, message.expansion.alpha)
