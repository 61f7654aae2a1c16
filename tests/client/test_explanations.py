"""What the SDK makes of a server's hits: whether they are augmented, and why they are hits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
import numpy as np
import pytest

from lookalike import AsyncClient, Explanation, Neighbour, Servers, Space
from lookalike_protos.indexer.v1 import items_pb2, search_pb2, search_pb2_grpc

Serve = Callable[[Callable[[grpc.aio.Server], None]], AbstractAsyncContextManager[str]]
SPACE = Space(fingerprint="ls1:" + "a" * 64, model="shoes", version=1, profile="plain", dim=4)


class Searches(search_pb2_grpc.SearchServiceServicer):
    """Answers two hits, explained if that is asked for; an `old` server knows of neither flags nor explanations."""

    old = False

    async def Search(self, request: search_pb2.SearchRequest, context: Any) -> search_pb2.SearchResponse:  # noqa: N802
        hits = search_pb2.QueryHits(item_indices=[1, 0], scores=[0.75, 0.5], fresh=[True, False])
        if not self.old:
            hits.augmented.extend([False, True])
        if request.explain and not self.old:
            neighbour = search_pb2.Neighbour(id="n", weight=0.5, similarity=0.25)
            hits.explanations.add(raw_score=0.75, rank=1, raw_rank=1)
            hits.explanations.add(raw_score=0.25, rank=2, raw_rank=7, neighbours=[neighbour])
        return search_pb2.SearchResponse(hits=[hits], items=[items_pb2.Item(id="a"), items_pb2.Item(id="b")])

    def Rank(self, request: search_pb2.RankRequest, context: Any) -> AsyncIterator[search_pb2.RankResponse]:  # noqa: N802
        raise NotImplementedError


@pytest.fixture
def searches() -> Searches:
    return Searches()


async def search(serve: Serve, searches: Searches, **fields: Any) -> list[tuple[str, bool, bool, Explanation | None]]:
    add = search_pb2_grpc.add_SearchServiceServicer_to_server
    async with serve(lambda server: add(searches, server)) as address, AsyncClient(Servers(indexer=address)) as client:
        found = await client.indexer.search("collections/c", np.ones((1, 4), np.float32), SPACE, 2, **fields)
    return [(hit.item.id, hit.fresh, hit.augmented, hit.explanation) for hit in found.hits[0]]


async def test_each_hit_tells_whether_it_is_augmented(serve: Serve, searches: Searches) -> None:
    assert await search(serve, searches) == [("b", True, False, None), ("a", False, True, None)]


async def test_explanations_come_with_their_hits_if_asked_for(serve: Serve, searches: Searches) -> None:
    first, second = await search(serve, searches, explain=True)
    assert first[3] == Explanation(0.75, 1, 1, ())
    assert second[3] == Explanation(0.25, 2, 7, (Neighbour("n", 0.5, 0.25),))


async def test_a_server_of_an_earlier_version_is_understood(serve: Serve, searches: Searches) -> None:
    searches.old = True
    assert await search(serve, searches) == [("b", True, False, None), ("a", False, False, None)]
