# ruff: noqa: N802, ARG002 - gRPC gives the methods their names and arguments
"""SearchService."""

from __future__ import annotations

import time
from asyncio import to_thread
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from lookalike_indexer.candidates import NOTHING_ASKED, Asked
from lookalike_indexer.collection import Answer, OpenCollection
from lookalike_indexer.collections import Collections
from lookalike_indexer.explain import check_limits
from lookalike_indexer.rank.job import Start
from lookalike_indexer.rank.process import Part, RankedRows, ReferenceIds
from lookalike_indexer.rank.rankings import Rankings, Task
from lookalike_indexer.records import Dba
from lookalike_indexer.search import Hits, unit_queries
from lookalike_indexer.servicers.explanation_messages import add_explanations
from lookalike_indexer.servicers.filter_messages import filter_in
from lookalike_indexer.servicers.item_messages import batch_message, columns_of, item_message, require_room
from lookalike_indexer.servicers.translate import (
    SOURCES,
    build_name,
    collection_id,
    collection_name,
    dba_of,
    in_range,
    progress_message,
    vectors_of,
)
from lookalike_indexer.store import Columns
from lookalike_protos.indexer.v1 import search_pb2, search_pb2_grpc
from lookalike_runtime.errors import invalid_field

MAX_K = 1_000
MAX_QUERIES = 256
MAX_SEARCH_K = 10_000_000

Context = grpc.aio.ServicerContext[Any, Any]


class SearchServicer(search_pb2_grpc.SearchServiceServicer):
    def __init__(self, collections: Collections, rankings: Rankings) -> None:
        self._collections = collections
        self._rankings = rankings

    async def Search(self, request: search_pb2.SearchRequest, context: Context) -> search_pb2.SearchResponse:
        in_range("k", request.k, 1, MAX_K)
        name = collection_id("collection", request.collection)
        columns = columns_of(request.view)
        return await to_thread(_search, self._collections, name, columns, request)

    async def Rank(self, request: search_pb2.RankRequest, context: Context) -> AsyncIterator[search_pb2.RankResponse]:
        in_range("k", request.k, 1, MAX_K)
        query_dba = dba_of("query_dba", request.query_dba) if request.HasField("query_dba") else Dba()
        reference_dba = dba_of("reference_dba", request.reference_dba) if request.HasField("reference_dba") else Dba()
        queries = await to_thread(self._collections.get, collection_id("query_collection", request.query_collection))
        references = await to_thread(self._collections.get, collection_id("reference_collection", request.reference_collection))
        task = Task(queries, references, request.k, query_dba, reference_dba, request.exclude_same_id)
        async with aclosing(self._rankings.rank(task)) as parts:
            async for part in parts:
                yield _part_message(task, part)


def _search(collections: Collections, name: str, columns: Columns, request: search_pb2.SearchRequest) -> search_pb2.SearchResponse:
    started = time.perf_counter()
    collection = collections.get(name)
    raw = vectors_of("queries", request.queries, collection.space, f"collection {collection.name!r}")
    in_range("queries", len(raw), 1, MAX_QUERIES)
    if request.explain:
        check_limits(len(raw), request.k)
    exact, asked = _effort(request)
    queries = unit_queries(raw)
    answer = collection.search(
        queries,
        request.k,
        columns,
        exact=exact,
        asked=asked,
        min_revision=request.min_revision,
        item_filter=filter_in(request),
    )
    response = _search_message(collection, answer, columns)
    if request.explain:
        add_explanations(response.hits, answer.view, queries, answer.found.hits)
    response.seconds = time.perf_counter() - started
    return response


def _effort(request: search_pb2.SearchRequest) -> tuple[bool, Asked]:
    """Return whether to search exactly, and what else is asked for."""
    which = request.WhichOneof("effort")
    if which == "search_k":
        return False, Asked(search_k=in_range("search_k", request.search_k, 1, MAX_SEARCH_K))
    if which == "recall":
        if not 0 < request.recall < 1:
            raise invalid_field("recall", f"{request.recall:g} is out of range: over 0 to below 1; `exact` finds all")
        return False, Asked(recall=request.recall)
    if which == "exact" and not request.exact:
        raise invalid_field("exact", "it must be true if set: leave it out for the effort that the build chose")
    return which == "exact", NOTHING_ASKED


def _search_message(collection: OpenCollection, answer: Answer, columns: Columns) -> search_pb2.SearchResponse:
    items = [answer.items[each] for each in dict.fromkeys(each for hits in answer.found.hits for each in hits.ids)]
    require_room(items, columns, collection.space)
    places = {item.id: place for place, item in enumerate(items)}
    build = answer.view.build
    return search_pb2.SearchResponse(
        hits=[_hits_message(hits, places) for hits in answer.found.hits],
        items=map(item_message, items),
        vectors=batch_message(items, collection.space) if columns.vector else None,
        collection=collection_name(collection.name),
        revision=answer.view.revision,
        build=build_name(collection.name, build.number) if build else "",
        exact=answer.found.exact,
        source=SOURCES[answer.found.source],
        search_k=answer.found.search_k,
    )


def _hits_message(hits: Hits, places: dict[str, int]) -> search_pb2.QueryHits:
    return search_pb2.QueryHits(
        item_indices=[places[each] for each in hits.ids], scores=hits.scores, fresh=hits.fresh, augmented=hits.augmented
    )


def _part_message(task: Task, part: Part) -> search_pb2.RankResponse:
    if isinstance(part, Start):
        start = search_pb2.RankStart(
            query_collection=collection_name(task.queries.name),
            query_revision=part.query_revision,
            query_count=part.query_count,
            reference_collection=collection_name(task.references.name),
            reference_revision=part.reference_revision,
            reference_count=part.reference_count,
        )
        return search_pb2.RankResponse(start=start)
    if isinstance(part, ReferenceIds):
        return search_pb2.RankResponse(reference_ids=search_pb2.ReferenceIds(ids=part.ids))
    if isinstance(part, RankedRows):
        return search_pb2.RankResponse(rows=_rows_message(part))
    return search_pb2.RankResponse(progress=progress_message(part))


def _rows_message(rows: RankedRows) -> search_pb2.RankRows:
    return search_pb2.RankRows(
        query_ids=rows.query_ids,
        width=rows.top.indices.shape[1],
        indices=rows.top.indices.astype("<u4").tobytes(),
        scores=rows.top.scores.astype("<f4").tobytes(),
    )
