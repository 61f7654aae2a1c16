# ruff: noqa: N802, ARG002 - gRPC gives the methods their names and arguments
"""SearchService."""

from __future__ import annotations

import time
from asyncio import to_thread
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from lookalike_indexer.collections import Collections
from lookalike_indexer.rank.job import Start
from lookalike_indexer.rank.process import Part, RankedRows, ReferenceIds
from lookalike_indexer.rank.rankings import Rankings, Task
from lookalike_indexer.records import Dba
from lookalike_indexer.servicers.explanation_messages import add_explanations
from lookalike_indexer.servicers.search_messages import MAX_K, pictures_of, read_request, response_message
from lookalike_indexer.servicers.translate import collection_id, collection_name, dba_of, in_range, progress_message
from lookalike_protos.indexer.v1 import search_pb2, search_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class SearchServicer(search_pb2_grpc.SearchServiceServicer):
    def __init__(self, collections: Collections, rankings: Rankings) -> None:
        self._collections = collections
        self._rankings = rankings

    async def Search(self, request: search_pb2.SearchRequest, context: Context) -> search_pb2.SearchResponse:
        name = collection_id("collection", request.collection)
        return await to_thread(_search, self._collections, name, request)

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


def _search(collections: Collections, name: str, message: search_pb2.SearchRequest) -> search_pb2.SearchResponse:
    started = time.perf_counter()
    request = read_request(message)
    collection = collections.get(name)
    answer = collection.search(pictures_of(message, collection), **request._asdict())
    response = response_message(collection, answer, request.columns)
    if message.explain:
        add_explanations(response.hits, answer.view, answer.queries.units, answer.found.hits)
    response.seconds = time.perf_counter() - started
    return response


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
