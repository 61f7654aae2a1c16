from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.json_format import ParseDict
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from numpy.typing import NDArray

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
from lookalike_protos.packing import pack_vectors
from lookalike_protos.types.v1 import dba_pb2, operations_pb2, space_pb2

Vectors = NDArray[np.float32]
ENDED = (operations_pb2.STATE_SUCCEEDED, operations_pb2.STATE_FAILED, operations_pb2.STATE_CANCELLED)


def space(dim: int = 8, digit: str = "a") -> space_pb2.Space:
    return space_pb2.Space(
        fingerprint="ls1:" + digit * 64, model="shoes", version=3, profile="plain", dim=dim, metric=space_pb2.METRIC_COSINE
    )


class Indexer:
    """A real server process and a channel to it."""

    def __init__(self, data: Path, log: Path, **flags: str) -> None:
        announcement = data.parent / f"{uuid.uuid4().hex}.json"
        command = [sys.executable, "-m", "lookalike_indexer", "--data", str(data), "--port", "0", "--announce", str(announcement)]
        # Builds begin when a test says so.
        for flag, value in ({"auto_build_share": "0"} | flags).items():
            command += [f"--{flag.replace('_', '-')}", value]
        self.data = data
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(command, stderr=stderr, env={**os.environ, "OMP_NUM_THREADS": "1"})
        for _ in range(600):
            if announcement.exists():
                break
            assert self.process.poll() is None, log.read_text()
            time.sleep(0.05)
        address = json.loads(announcement.read_text())["address"]
        self.channel = grpc.insecure_channel(
            address, [("grpc.max_receive_message_length", 16 << 20), ("grpc.max_send_message_length", 16 << 20)]
        )
        self.collections = collections_pb2_grpc.CollectionServiceStub(self.channel)
        self.items = items_pb2_grpc.ItemServiceStub(self.channel)
        self.searches = search_pb2_grpc.SearchServiceStub(self.channel)
        self.builds = builds_pb2_grpc.BuildServiceStub(self.channel)

    def kill(self) -> None:
        """End it as a power cut would, as far as processes go."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.channel.close()

    def stop(self) -> int:
        self.channel.close()
        self.process.terminate()
        return self.process.wait(30)

    def create(self, name: str, dim: int = 8, **fields: Any) -> str:
        collection = collections_pb2.Collection(space=space(dim), **fields)
        return self.collections.CreateCollection(collections_pb2.CreateCollectionRequest(collection_id=name, collection=collection)).name

    def chunk(self, ids: Sequence[str], vectors: Vectors, **fields: Any) -> items_pb2.UpsertItemsRequest:
        batch = pack_vectors(vectors, space(vectors.shape[1]))
        items = [ParseDict({"id": each, "label": f"label of {each}"}, items_pb2.Item()) for each in ids]
        for item in items:
            item.MergeFrom(items_pb2.Item(**fields))
        return items_pb2.UpsertItemsRequest(chunk=items_pb2.UpsertChunk(items=items, vectors=batch))

    def upsert(self, name: str, ids: Sequence[str], vectors: Vectors, **fields: Any) -> list[items_pb2.UpsertItemsResponse]:
        chunks = (self.chunk(ids[at : at + 500], vectors[at : at + 500], **fields) for at in range(0, len(ids), 500))
        return list(self.items.UpsertItems(itertools.chain([items_pb2.UpsertItemsRequest(collection=name)], chunks)))

    def delete(self, name: str, ids: Sequence[str]) -> items_pb2.DeleteItemsResponse:
        return self.items.DeleteItems(items_pb2.DeleteItemsRequest(collection=name, ids=ids))

    def search(self, name: str, queries: Vectors, k: int = 10, **fields: Any) -> search_pb2.SearchResponse:
        batch = pack_vectors(queries, space(queries.shape[1]))
        return self.searches.Search(search_pb2.SearchRequest(collection=name, queries=batch, k=k, **fields))

    def found(self, name: str, queries: Vectors, k: int = 10, **fields: Any) -> list[list[str]]:
        answer = self.search(name, queries, k, **fields)
        return [[answer.items[place].id for place in hits.item_indices] for hits in answer.hits]

    def begin(self, name: str, *, dba: int | None = None, **spec: Any) -> builds_pb2.Build:
        build_spec = builds_pb2.BuildSpec(dba=None if dba is None else dba_pb2.DbaSpec(k=dba), **spec)
        return self.builds.CreateBuild(builds_pb2.CreateBuildRequest(collection=name, spec=build_spec, request_id=uuid.uuid4().hex))

    def build(self, name: str, *, dba: int | None = None, **spec: Any) -> builds_pb2.Build:
        """Make a build and wait for its end."""
        begun = self.begin(name, dba=dba, **spec)
        for _ in self.builds.WatchBuild(builds_pb2.WatchBuildRequest(name=begun.name)):
            pass
        ended = self.builds.GetBuild(builds_pb2.GetBuildRequest(name=begun.name))
        assert ended.state in ENDED
        return ended

    def ids(self, name: str) -> list[str]:
        ids: list[str] = []
        token = ""
        while True:
            page = self.items.ListItems(items_pb2.ListItemsRequest(collection=name, page_size=1000, page_token=token))
            ids += [item.id for item in page.items]
            token = page.next_page_token
            if not token:
                return ids


class Refused:
    """What the caller of a refused call is told."""

    def __init__(self) -> None:
        self.code = grpc.StatusCode.OK
        self.reason = ""
        self.message = ""
        self.fields: list[str] = []
        self.retry = False

    def read(self, error: grpc.RpcError) -> None:
        status = rpc_status.from_call(error)
        assert status is not None, error
        self.code, self.message = error.code(), status.message
        for detail in status.details:
            info, wrong = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
            if detail.Unpack(info):
                self.reason = info.reason
            elif detail.Unpack(wrong):
                self.fields = [violation.field for violation in wrong.field_violations]
            else:
                self.retry = detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR)


@pytest.fixture(scope="session")
def indexer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Indexer]:
    """One server for all tests that need none of their own."""
    folder = tmp_path_factory.mktemp("indexer")
    server = Indexer(folder / "data", folder / "log", expiry_seconds="0.2")
    yield server
    assert server.stop() == 0, (folder / "log").read_text()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Indexer]]:
    """Start servers on one data folder, one after another."""
    servers: list[Indexer] = []

    def start_one(**flags: str) -> Indexer:
        servers.append(Indexer(tmp_path / "data", tmp_path / "log", **flags))
        return servers[-1]

    yield start_one
    for server in servers:
        if server.process.poll() is None:
            server.kill()


@pytest.fixture
def name(indexer: Indexer) -> str:
    """A new, empty collection of 8 dimensions."""
    return indexer.create(f"c{uuid.uuid4().hex[:12]}")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def refused() -> Callable[[Callable[[], Any]], Refused]:
    """Make a call that must be refused, and return what its caller is told."""

    def exhaust(action: Callable[[], Any]) -> None:
        answer = action()
        if isinstance(answer, Iterator):
            list(answer)

    def call(action: Callable[[], Any]) -> Refused:
        with pytest.raises(grpc.RpcError) as error:
            exhaust(action)
        told = Refused()
        told.read(error.value)
        return told

    return call
