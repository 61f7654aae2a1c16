"""The indexer: collections, items, builds, searches and rankings."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np
from google.protobuf.field_mask_pb2 import FieldMask
from numpy.typing import NDArray

from lookalike._archives import AsyncArchives
from lookalike._channel import Channel
from lookalike._config import Timeouts
from lookalike._exceptions import InputError, Unavailable, WorkFailed, WorkIncomplete
from lookalike._models import (
    Alias,
    Build,
    BuildSpec,
    Collection,
    Combine,
    DbaSpec,
    DeleteResult,
    DType,
    Engine,
    Event,
    Expansion,
    Explanation,
    Hit,
    Item,
    ItemChange,
    ItemCount,
    ItemView,
    Problem,
    Progress,
    Ranking,
    SearchResult,
    Source,
    Space,
    State,
    UpdateResult,
    UpsertResult,
    ValueCount,
    ValueCounts,
)
from lookalike._pages import pages
from lookalike._ranking import RankParts
from lookalike._status import BROKEN_WHILE_SENDING, problem_of
from lookalike._watch import watch
from lookalike._wire import member, read, write
from lookalike.filters import Filter
from lookalike_protos.indexer.v1 import (
    builds_pb2,
    builds_pb2_grpc,
    collections_pb2,
    collections_pb2_grpc,
    items_pb2,
    items_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
)
from lookalike_protos.packing import pack_vectors, rows_per_batch
from lookalike_protos.types.v1 import dba_pb2, space_pb2, vectors_pb2

_CHUNK_ITEMS = 1000
_CHUNK_ITEM_BYTES = 8 * 1024 * 1024
_DELETED_AT_ONCE = 10_000


class AsyncIndexer(AsyncArchives):
    """Calls of the indexer; `AsyncClient.indexer` is one."""

    def __init__(self, channel: Channel, timeouts: Timeouts) -> None:
        super().__init__(channel, timeouts)
        self._channel = channel
        self._timeouts = timeouts
        self._collections = collections_pb2_grpc.CollectionServiceStub(channel.grpc)
        self._items = items_pb2_grpc.ItemServiceStub(channel.grpc)
        self._builds = builds_pb2_grpc.BuildServiceStub(channel.grpc)
        self._search = search_pb2_grpc.SearchServiceStub(channel.grpc)

    async def create_collection(
        self,
        collection_id: str,
        space: Space,
        *,
        engine: Engine = Engine.UNSPECIFIED,
        dba: DbaSpec | None = None,
        recall_target: float = 0.0,
        expire_time: datetime | None = None,
        dtype: DType = DType.UNSPECIFIED,
    ) -> Collection:
        """Make the empty collection `collections/<collection_id>`, which pins the model, version and profile of `space`.

        `dtype` is how its raw vectors are stored: FLOAT16 takes half the room, and rounds.
        """
        collection = collections_pb2.Collection(
            space=write(space, space_pb2.Space),
            engine=collections_pb2.Engine.Value(f"ENGINE_{engine}"),
            recall_target=recall_target,
            dtype=vectors_pb2.DType.Value(f"D_TYPE_{dtype}"),
        )
        if dba is not None:
            collection.dba.CopyFrom(write(dba, dba_pb2.DbaSpec))
        if expire_time is not None:
            collection.expire_time.FromDatetime(expire_time)
        request = collections_pb2.CreateCollectionRequest(collection_id=collection_id, collection=collection)
        return read(Collection, await self._channel.unary(self._collections.CreateCollection, request, self._timeouts.call))

    async def get_collection(self, name: str) -> Collection:
        """Look at `collections/C`, where C may be an alias."""
        request = collections_pb2.GetCollectionRequest(name=name)
        return read(Collection, await self._channel.unary(self._collections.GetCollection, request, self._timeouts.call))

    async def list_collections(self) -> list[Collection]:
        """Return all collections by name."""
        call = partial(self._channel.unary, self._collections.ListCollections, seconds=self._timeouts.call)
        request = collections_pb2.ListCollectionsRequest()
        return [read(Collection, each) async for page in pages(call, request) for each in page.collections]

    async def delete_collection(self, name: str, etag: str = "") -> None:
        """Delete `collections/C` with all it holds; with an `etag` only if it is still the present one."""
        request = collections_pb2.DeleteCollectionRequest(name=name, etag=etag)
        await self._channel.unary(self._collections.DeleteCollection, request, self._timeouts.call)

    async def create_alias(self, alias_id: str, collection: str) -> Alias:
        """Point the new `aliases/<alias_id>` at `collections/C`."""
        request = collections_pb2.CreateAliasRequest(alias_id=alias_id, alias=collections_pb2.Alias(collection=collection))
        return read(Alias, await self._channel.unary(self._collections.CreateAlias, request, self._timeouts.call))

    async def get_alias(self, name: str) -> Alias:
        """Look at `aliases/A`."""
        request = collections_pb2.GetAliasRequest(name=name)
        return read(Alias, await self._channel.unary(self._collections.GetAlias, request, self._timeouts.call))

    async def update_alias(self, name: str, collection: str, etag: str = "") -> Alias:
        """Point `aliases/A` at another collection; with an `etag` only if it is still the present one."""
        request = collections_pb2.UpdateAliasRequest(alias=collections_pb2.Alias(name=name, collection=collection, etag=etag))
        return read(Alias, await self._channel.unary(self._collections.UpdateAlias, request, self._timeouts.call))

    async def list_aliases(self) -> list[Alias]:
        """Return all aliases by name."""
        call = partial(self._channel.unary, self._collections.ListAliases, seconds=self._timeouts.call)
        return [read(Alias, each) async for page in pages(call, collections_pb2.ListAliasesRequest()) for each in page.aliases]

    async def delete_alias(self, name: str, etag: str = "") -> None:
        """Delete `aliases/A`; the collection stays."""
        request = collections_pb2.DeleteAliasRequest(name=name, etag=etag)
        await self._channel.unary(self._collections.DeleteAlias, request, self._timeouts.call)

    async def upsert_items(self, collection: str, items: Sequence[Item], vectors: NDArray[np.floating[Any]], space: Space) -> UpsertResult:
        """Insert or replace `items`, whose `vectors` [items, dim] are of `space`; answers once they are on the server's disk.

        Ids must differ. Items that the server refuses are in the result's `failures`; the others are kept.
        """
        chunks = list(_chunks(items, space.dim))
        proto_space = write(space, space_pb2.Space)
        acknowledged = asyncio.Semaphore()

        async def requests() -> AsyncIterator[items_pb2.UpsertItemsRequest]:
            yield items_pb2.UpsertItemsRequest(collection=collection)
            for part in chunks:
                messages = [write(item, items_pb2.Item) for item in items[part]]
                chunk = items_pb2.UpsertChunk(items=messages, vectors=pack_vectors(vectors[part], proto_space))
                # One chunk at a time: why one is refused is lost if the next is being sent then.
                await acknowledged.acquire()
                yield items_pb2.UpsertItemsRequest(chunk=chunk)

        kept, failures, answer = 0, dict[str, Problem](), items_pb2.UpsertItemsResponse()
        answered = iter(chunks)
        try:
            async for answer in self._channel.stream(self._items.UpsertItems, requests(), lambda: self._timeouts.upsert):
                acknowledged.release()
                part = next(answered)
                kept += answer.kept_count
                failures.update({items[part][failure.index].id: problem_of(failure.error) for failure in answer.failures})
        except Unavailable as error:
            if error.reason == BROKEN_WHILE_SENDING:
                await self.get_collection(collection)  # NotFound is what the server meant
            raise
        if next(answered, None) is not None:
            raise WorkIncomplete(f"the indexer acknowledged {kept} of {len(items)} items and ended the call: try again")
        return UpsertResult(answer.collection, answer.revision, kept, failures)

    async def get_items(self, collection: str, ids: Sequence[str], *, view: ItemView = ItemView.BASIC) -> list[Item]:
        """Return the items of `ids` that are there, in their order."""
        found: list[Item] = []
        for start in range(0, len(ids), 250):
            request = items_pb2.BatchGetItemsRequest(collection=collection, ids=ids[start : start + 250], view=_view_of(view))
            answer = await self._channel.unary(self._items.BatchGetItems, request, self._timeouts.call)
            found.extend(read(Item, item) for item in answer.items)
        return found

    async def list_items(
        self, collection: str, *, filter: Filter | None = None, limit: int | None = None, view: ItemView = ItemView.BASIC
    ) -> list[Item]:
        """Return all items by id, or those that meet a filter, or the first `limit` of them."""
        call = partial(self._channel.unary, self._items.ListItems, seconds=self._timeouts.call)
        request = items_pb2.ListItemsRequest(collection=collection, filter=filter.message() if filter else None, view=_view_of(view))
        found: list[Item] = []
        async for page in pages(call, request):
            found.extend(read(Item, each) for each in page.items)
            if limit is not None and len(found) >= limit:
                return found[:limit]
        return found

    async def count_items(self, collection: str, *, filter: Filter | None = None) -> ItemCount:
        """Count all items, or those that meet a filter."""
        request = items_pb2.CountItemsRequest(collection=collection, filter=filter.message() if filter else None)
        return read(ItemCount, await self._channel.unary(self._items.CountItems, request, self._timeouts.call))

    async def count_values(self, collection: str, path: str, *, filter: Filter | None = None, limit: int = 100) -> ValueCounts:
        """Count the values of `label`, `uri` or `payload.KEY` of all items, or those that meet a filter.

        The `limit` most frequent come, 1 to 10,000.
        """
        request = items_pb2.CountValuesRequest(collection=collection, path=path, filter=filter.message() if filter else None, limit=limit)
        answer = await self._channel.unary(self._items.CountValues, request, self._timeouts.call)
        values = tuple(ValueCount(getattr(each.value, each.value.WhichOneof("kind") or "text"), each.count) for each in answer.values)
        return ValueCounts(values, answer.distinct_count, answer.missing_count, answer.revision, answer.collection)

    async def update_items(self, collection: str, changes: Sequence[ItemChange]) -> UpdateResult:
        """Change fields of items that are there, without their vectors; answers once all is on the server's disk.

        Ids must differ. Changes that the server refuses are in the result's `failures`; the others are kept. More changes than fit into a
        call, 1,000, are several writes.
        """
        updated, failures, answer = 0, dict[str, Problem](), items_pb2.UpdateItemsResponse()
        for part in _parts([_change_message(each) for each in changes]):
            request = items_pb2.UpdateItemsRequest(collection=collection, changes=part)
            answer = await self._channel.unary(self._items.UpdateItems, request, self._timeouts.upsert)
            updated += answer.updated_count
            failures.update({part[failure.index].item.id: problem_of(failure.error) for failure in answer.failures})
        return UpdateResult(answer.collection, answer.revision, updated, failures)

    async def delete_items(self, collection: str, ids: Sequence[str] | None = None, *, filter: Filter | None = None) -> int:
        """Delete items by id, or those that meet a filter; returns how many were there. No search finds them any more.

        Raises InputError for both and for neither.
        """
        if (ids is None) == (filter is None):
            raise InputError("delete_items takes ids or a filter: give one of them", reason="BAD_FILTER")
        if filter is not None:
            request = items_pb2.DeleteItemsRequest(collection=collection, filter=filter.message())
            return read(DeleteResult, await self._channel.unary(self._items.DeleteItems, request, self._timeouts.upsert)).deleted_count
        return await self._delete_ids(collection, ids or ())

    async def _delete_ids(self, collection: str, ids: Sequence[str]) -> int:
        deleted = 0
        for start in range(0, len(ids), _DELETED_AT_ONCE):
            request = items_pb2.DeleteItemsRequest(collection=collection, ids=ids[start : start + _DELETED_AT_ONCE])
            answer = await self._channel.unary(self._items.DeleteItems, request, self._timeouts.upsert)
            deleted += read(DeleteResult, answer).deleted_count
        return deleted

    async def create_build(self, collection: str, spec: BuildSpec | None = None, request_id: str | None = None) -> Build:
        """Queue a build of all items up to now. With a `request_id` of your own the call may be repeated."""
        request = builds_pb2.CreateBuildRequest(
            collection=collection, spec=write(spec or BuildSpec(), builds_pb2.BuildSpec), request_id=request_id or str(uuid.uuid4())
        )
        return read(Build, await self._channel.unary(self._builds.CreateBuild, request, self._timeouts.call))

    async def get_build(self, name: str) -> Build:
        """Look at `collections/C/builds/B`."""
        return read(Build, await self._channel.unary(self._builds.GetBuild, builds_pb2.GetBuildRequest(name=name), self._timeouts.call))

    async def list_builds(self, collection: str) -> list[Build]:
        """Return the builds of `collections/C`, newest first."""
        call = partial(self._channel.unary, self._builds.ListBuilds, seconds=self._timeouts.call)
        return [read(Build, each) async for page in pages(call, builds_pb2.ListBuildsRequest(parent=collection)) for each in page.builds]

    async def cancel_build(self, name: str) -> Build:
        """Ask `collections/C/builds/B` to end; nothing of it is left."""
        request = builds_pb2.CancelBuildRequest(name=name)
        return read(Build, await self._channel.unary(self._builds.CancelBuild, request, self._timeouts.call))

    def watch_build(self, name: str, after_sequence: int = 0) -> AsyncIterator[Event]:
        """Yield the events of `collections/C/builds/B` after a number, then each new one, to the last."""
        request = builds_pb2.WatchBuildRequest(name=name, after_sequence=after_sequence)
        return watch(self._channel, self._builds.WatchBuild, request, self._timeouts.silence)

    async def wait_for_build(self, name: str, on_event: Callable[[Event], None] | None = None) -> Build:
        """Return the build `name` once it has succeeded; raises WorkFailed if it ends otherwise."""
        async for event in self.watch_build(name):
            if on_event:
                on_event(event)
        build = await self.get_build(name)
        if build.state is not State.SUCCEEDED:
            why = build.error.message if build.error else f"it is {build.state.lower()}"
            reason = build.error.reason if build.error else build.state
            raise WorkFailed(f"{name} came to nothing: {why}", reason=reason, metadata={"name": name})
        return build

    async def activate_build(self, name: str) -> Build:
        """Let an earlier build answer searches again; no automatic build replaces it."""
        request = builds_pb2.ActivateBuildRequest(name=name)
        return read(Build, await self._channel.unary(self._builds.ActivateBuild, request, self._timeouts.call))

    async def search(
        self,
        collection: str,
        queries: NDArray[np.floating[Any]] | None = None,
        space: Space | None = None,
        k: int = 10,
        *,
        item_ids: Sequence[str] | None = None,
        query_sizes: Sequence[int] = (),
        combine: Combine = Combine.UNSPECIFIED,
        exact: bool = False,
        search_k: int | None = None,
        recall: float | None = None,
        min_score: float | None = None,
        expansion: Expansion | None = None,
        group_by_label: bool = False,
        view: ItemView = ItemView.BASIC,
        min_revision: int = 0,
        filter: Filter | None = None,
        explain: bool = False,
    ) -> SearchResult:
        """Find the `k` nearest items, 1 to 1,000, of each query.

        Args:
            collection: `collections/C`, where C may be an alias.
            queries: 1 to 256 vectors [n, dim] of `space`; or else `item_ids`, items of the collection that are no hits of what they ask.
            space: what `queries` are of.
            k: hits a query.
            item_ids: see `queries`; raises NotFound for one that is not there.
            query_sizes: how many successive vectors or items make one query, each 1 to 32; none: each is one.
            combine: how they do.
            exact: compare every vector. With none of `exact`, `search_k` and `recall` the build's plan is followed.
            search_k: ask for Annoy, and so many nodes.
            recall: the cheapest way that was measured to have at least this recall, over 0 to below 1; exact if none.
            min_score: leave out hits below it, −1 to 1.
            expansion: search again with what the first hits make of the query.
            group_by_label: only the best hit of each label; an item without a label is a group of its own.
            view: how much of each item comes.
            min_revision: a revision that the answer must have reached.
            filter: what items must meet to be found.
            explain: tell of each hit why it is one; 16 queries and a `k` of 100 at most, and not with Combine.BEST.

        Raises InputError for both or neither of `queries` and `item_ids`, and for more than one of `exact`, `search_k` and `recall`.
        """
        request = search_pb2.SearchRequest(
            collection=collection,
            queries=_queries_of(queries, space, item_ids),
            item_ids=item_ids,
            query_sizes=query_sizes,
            combine=search_pb2.Combine.Value(f"COMBINE_{combine}"),
            k=k,
            view=_view_of(view),
            min_score=min_score,
            expansion=write(expansion, search_pb2.Expansion) if expansion else None,
            group_by_label=group_by_label,
            min_revision=min_revision,
            filter=filter.message() if filter else None,
            explain=explain,
            **_effort_of(exact, search_k, recall),
        )
        answer = await self._channel.unary(self._search.Search, request, self._timeouts.call)
        items = [read(Item, item) for item in answer.items]
        hits = tuple(_hits(each, items) for each in answer.hits)
        source = member(Source, answer.source, builds_pb2.Source.DESCRIPTOR)
        return SearchResult(hits, answer.collection, answer.revision, answer.build, answer.exact, answer.search_k, answer.seconds, source)

    async def rank(
        self,
        query_collection: str,
        reference_collection: str,
        k: int = 1000,
        *,
        query_dba: DbaSpec | None = None,
        reference_dba: DbaSpec | None = None,
        exclude_same_id: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> Ranking:
        """Rank all references for every query, exactly; keeps the best `k`, 1 to 1,000.

        Raises WorkIncomplete if the server's answer lacks a part.
        """
        request = search_pb2.RankRequest(
            query_collection=query_collection, reference_collection=reference_collection, k=k, exclude_same_id=exclude_same_id
        )
        if query_dba is not None:
            request.query_dba.CopyFrom(write(query_dba, dba_pb2.DbaSpec))
        if reference_dba is not None:
            request.reference_dba.CopyFrom(write(reference_dba, dba_pb2.DbaSpec))
        parts = RankParts()
        async for message in self._channel.stream(self._search.Rank, request, lambda: self._timeouts.silence):
            if message.WhichOneof("message") == "progress":
                if progress:
                    progress(read(Progress, message.progress))
            else:
                parts.add(message)
        return parts.ranking()


def _view_of(view: ItemView) -> items_pb2.ItemView.ValueType:
    return items_pb2.ItemView.Value(f"ITEM_VIEW_{view}")


def _hits(message: search_pb2.QueryHits, items: Sequence[Item]) -> tuple[Hit, ...]:
    count = len(message.item_indices)
    # A server of an earlier version does not tell what is augmented.
    augmented = list(message.augmented) or [False] * count
    explanations: list[Explanation | None] = [read(Explanation, each) for each in message.explanations]
    columns = zip(message.item_indices, message.scores, message.fresh, augmented, explanations or [None] * count, strict=True)
    return tuple(Hit(items[place], score, fresh, changed, why) for place, score, fresh, changed, why in columns)


def _queries_of(
    queries: NDArray[np.floating[Any]] | None, space: Space | None, item_ids: Sequence[str] | None
) -> vectors_pb2.VectorBatch | None:
    if (queries is None) == (item_ids is None):
        raise InputError("search takes queries or item_ids: give one of them", reason="BAD_QUERY")
    if queries is None:
        return None
    if space is None:
        raise InputError("search with queries takes their space: give it, such as that of the collection", reason="BAD_QUERY")
    return pack_vectors(queries, write(space, space_pb2.Space))


def _effort_of(exact: bool, search_k: int | None, recall: float | None) -> dict[str, Any]:
    efforts = {"exact": exact or None, "search_k": search_k, "recall": recall}
    given = {name: value for name, value in efforts.items() if value is not None}
    if len(given) > 1:
        raise InputError(f"search takes one of exact, search_k and recall, not {' and '.join(given)}", reason="BAD_EFFORT")
    return given


def _chunks(items: Sequence[Item], dim: int) -> Iterator[slice]:
    """Yield slices of `items` that fit into a message each."""
    most = min(_CHUNK_ITEMS, rows_per_batch(dim))
    start, size = 0, 0
    for place, item in enumerate(items):
        if place > start and (place - start == most or size + len(item.thumbnail) > _CHUNK_ITEM_BYTES):
            yield slice(start, place)
            start, size = place, 0
        size += len(item.thumbnail)
    if start < len(items):
        yield slice(start, len(items))


def _change_message(change: ItemChange) -> items_pb2.ItemChange:
    return items_pb2.ItemChange(item=write(change.item, items_pb2.Item), update_mask=FieldMask(paths=change.update_mask))


def _parts(messages: Sequence[items_pb2.ItemChange]) -> Iterator[Sequence[items_pb2.ItemChange]]:
    """Yield runs of `messages` that fit into a call each."""
    start, size = 0, 0
    for place, message in enumerate(messages):
        if place > start and (place - start == _CHUNK_ITEMS or size + message.ByteSize() > _CHUNK_ITEM_BYTES):
            yield messages[start:place]
            start, size = place, 0
        size += message.ByteSize()
    if start < len(messages):
        yield messages[start:]
