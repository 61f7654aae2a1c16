"""The calls that the fault runs make of an indexer."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from google.protobuf.field_mask_pb2 import FieldMask
from numpy.typing import NDArray

from benchmarks.process import IndexerProcess
from lookalike_protos.indexer.v1 import builds_pb2, collections_pb2, items_pb2, search_pb2
from lookalike_protos.packing import pack_vectors, unpack_vectors
from lookalike_protos.types.v1 import dba_pb2, space_pb2

DIM = 32
NAME = "collections/things"
SPACE = space_pb2.Space(fingerprint="ls1:" + "f" * 64, model="faults", version=1, profile="plain", dim=DIM, metric=space_pb2.METRIC_COSINE)


class Value(NamedTuple):
    """What an item is worth to the ledger."""

    label: str
    vector: bytes


class Server(IndexerProcess):
    """One server with one collection."""

    def create(self) -> None:
        collection = collections_pb2.Collection(space=SPACE, recall_target=0.5)
        self.collections.CreateCollection(collections_pb2.CreateCollectionRequest(collection_id="things", collection=collection))

    def collection(self) -> collections_pb2.Collection:
        return self.collections.GetCollection(collections_pb2.GetCollectionRequest(name=NAME))

    def folder(self) -> Path:
        """Return where the collection's files lie."""
        return self.data / "indexer" / "collections" / self.collection().uid

    def upsert(self, values: Mapping[str, Value], payload_bytes: int = 0) -> items_pb2.UpsertItemsResponse:
        """Write items in one chunk; returns once they are acknowledged."""
        (answer,) = self.items.UpsertItems(iter([items_pb2.UpsertItemsRequest(collection=NAME), _chunk(values, payload_bytes)]))
        return answer

    def delete(self, ids: Sequence[str]) -> items_pb2.DeleteItemsResponse:
        return self.items.DeleteItems(items_pb2.DeleteItemsRequest(collection=NAME, ids=ids))

    def label(self, ids: Sequence[str], label: str) -> items_pb2.UpdateItemsResponse:
        """Change the labels of items alone."""
        changes = [items_pb2.ItemChange(item=items_pb2.Item(id=each, label=label), update_mask=FieldMask(paths=["label"])) for each in ids]
        return self.items.UpdateItems(items_pb2.UpdateItemsRequest(collection=NAME, changes=changes))

    def found(self, queries: NDArray[np.float32], k: int, *, exact: bool = False) -> list[list[str]]:
        """Return the ids of the hits of each query."""
        request = search_pb2.SearchRequest(collection=NAME, queries=pack_vectors(queries, SPACE), k=k)
        if exact:
            request.exact = True
        answer = self.searches.Search(request)
        return [[answer.items[place].id for place in hits.item_indices] for hits in answer.hits]

    def stored(self) -> dict[str, Value]:
        """Return every item that is there."""
        request = items_pb2.ListItemsRequest(collection=NAME, page_size=1_000, view=items_pb2.ITEM_VIEW_VECTOR)
        items: dict[str, Value] = {}
        while True:
            page = self.items.ListItems(request)
            if page.items:
                vectors = unpack_vectors(page.vectors)
                items |= {item.id: Value(item.label, vector.tobytes()) for item, vector in zip(page.items, vectors, strict=True)}
            request.page_token = page.next_page_token
            if not request.page_token:
                return items

    def begin_build(self, trees: int, dba: int = 0) -> builds_pb2.Build:
        """Queue a build with Annoy, however few items there are, and `dba` neighbours."""
        build_spec = builds_pb2.BuildSpec(force_engine=True, trees=trees, dba=dba_pb2.DbaSpec(k=dba))
        return self.builds.CreateBuild(builds_pb2.CreateBuildRequest(collection=NAME, spec=build_spec, request_id=uuid.uuid4().hex))

    def build(self, trees: int, dba: int = 0) -> builds_pb2.Build:
        """Make a build and wait for its end."""
        begun = self.begin_build(trees, dba)
        for _ in self.watch(begun.name):
            pass
        return self.builds.GetBuild(builds_pb2.GetBuildRequest(name=begun.name))

    def watch(self, name: str) -> Iterator[str]:
        """Yield the stage of each event of a build until it ends."""
        for event in self.builds.WatchBuild(builds_pb2.WatchBuildRequest(name=name)):
            yield event.progress.stage


def _chunk(values: Mapping[str, Value], payload_bytes: int) -> items_pb2.UpsertItemsRequest:
    vectors = np.frombuffer(b"".join(value.vector for value in values.values()), "<f4").reshape(-1, DIM)
    items = [items_pb2.Item(id=each, label=value.label) for each, value in values.items()]
    for item in items:
        if payload_bytes:
            item.payload["filler"] = "x" * payload_bytes
    return items_pb2.UpsertItemsRequest(chunk=items_pb2.UpsertChunk(items=items, vectors=pack_vectors(vectors, SPACE)))
