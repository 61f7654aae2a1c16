"""An embedder that does as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
from google.rpc.code_pb2 import INVALID_ARGUMENT
from google.rpc.status_pb2 import Status

from lookalike_protos.embedder.v1 import embedder_pb2
from lookalike_protos.packing import pack_vectors
from lookalike_protos.types.v1.space_pb2 import Space

SPACE = Space(fingerprint="ls1:00", model="m", version=1, profile="plain", dim=2)


class FakeEmbedder:
    """Answers each picture with its length and its sequence; pictures that are `b"bad"` fail.

    breaks: after how many answers each connection breaks, one number a connection; later ones last. hold: answers wait for it.
    first: a picture has come.
    """

    def __init__(self, breaks: list[int] | None = None) -> None:
        self.breaks = list(breaks or [])
        self.hold = asyncio.Event()
        self.hold.set()
        self.first = asyncio.Event()
        self.seen: list[list[int]] = []

    def add_to(self, server: grpc.aio.Server) -> None:
        handler = grpc.stream_stream_rpc_method_handler(
            self._embed_stream, embedder_pb2.EmbedStreamRequest.FromString, embedder_pb2.EmbedStreamResponse.SerializeToString
        )
        service = "lookalike.embedder.v1.EmbedderService"
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"EmbedStream": handler}),))

    async def _embed_stream(
        self, requests: AsyncIterator[embedder_pb2.EmbedStreamRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[embedder_pb2.EmbedStreamResponse]:
        left = self.breaks.pop(0) if self.breaks else None
        seen: list[int] = []
        self.seen.append(seen)
        async for request in requests:
            if request.WhichOneof("message") == "open":
                yield embedder_pb2.EmbedStreamResponse(opened=embedder_pb2.StreamOpened(space=SPACE))
                continue
            seen.append(request.picture.sequence)
            self.first.set()
            await self.hold.wait()
            if left is not None and len(seen) > left:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "draining")
            yield answer(request.picture)


def answer(picture: embedder_pb2.SequencedPicture) -> embedder_pb2.EmbedStreamResponse:
    if picture.picture.data == b"bad":
        status = Status(code=INVALID_ARGUMENT, message="truncated")
        cost = embedder_pb2.Cost(decode_seconds=0.25)
        return embedder_pb2.EmbedStreamResponse(failure=embedder_pb2.PictureFailure(sequence=picture.sequence, error=status, cost=cost))
    vector = np.array([[len(picture.picture.data), picture.sequence]], np.float32)
    cost = embedder_pb2.Cost(device_seconds=0.5, batch_size=1)
    batch = embedder_pb2.EmbeddedBatch(sequences=[picture.sequence], vectors=pack_vectors(vector, SPACE), cost=cost)
    return embedder_pb2.EmbedStreamResponse(batch=batch)
