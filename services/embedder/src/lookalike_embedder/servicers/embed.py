"""EmbedderService: pictures in, vectors out."""

# ruff: noqa: N802 (names are gRPC's)

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc

from lookalike_embedder.callers import BatchEmbedded, Refused, StreamAnswer, StreamCaller
from lookalike_embedder.loading import ServedProfile
from lookalike_embedder.models import ServedModels
from lookalike_embedder.pictures import Cost
from lookalike_embedder.pipeline import Pipeline
from lookalike_embedder.servicers.translation import picture_status, space_message
from lookalike_embedder.versions import Target
from lookalike_images import PictureError
from lookalike_protos.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from lookalike_protos.packing import pack_vectors, rows_per_batch
from lookalike_protos.types.v1 import space_pb2
from lookalike_runtime.errors import InvalidArgument, invalid_field
from lookalike_runtime.resource_names import check_id, parse_model

MAX_PICTURES = 64
MAX_BYTES = 15 * 1024 * 1024

Context = grpc.aio.ServicerContext[Any, Any]
Requests = AsyncIterator[embedder_pb2.EmbedStreamRequest]


class EmbedderServicer(embedder_pb2_grpc.EmbedderServiceServicer):
    """Parses, hands to the pipeline, translates."""

    def __init__(self, models: ServedModels, pipeline: Pipeline) -> None:
        self._models = models
        self._pipeline = pipeline

    async def Embed(self, request: embedder_pb2.EmbedRequest, context: Context) -> embedder_pb2.EmbedResponse:
        target = _target("target", request.target)
        pictures = _pictures(request)
        with self._pipeline.admit(pictures):
            async with self._models.lease(target) as profile:
                _check_rows(len(pictures), profile)
                few = await self._pipeline.embed(profile, pictures, _deadline(context))
        return embedder_pb2.EmbedResponse(
            vectors=pack_vectors(few.vectors, _space(profile)),
            results=[_result(result) for result in few.results],
            model_version=profile.name,
            cost=_cost(few.cost),
        )

    async def EmbedStream(self, request_iterator: Requests, context: Context) -> AsyncIterator[embedder_pb2.EmbedStreamResponse]:
        target = await _opening(request_iterator)
        async with self._models.lease(target) as profile:
            stream = self._pipeline.open_stream(profile, _deadline(context))
            space = _space(profile)
            yield embedder_pb2.EmbedStreamResponse(opened=embedder_pb2.StreamOpened(model_version=profile.name, space=space))
            receiving = asyncio.create_task(self._receive(request_iterator, stream))
            try:
                async for answer in stream.answers():
                    for response in _responses(answer, space):
                        yield response
            finally:
                stream.close()
                receiving.cancel()

    async def _receive(self, requests: Requests, stream: StreamCaller) -> None:
        """Put the stream's pictures into the pipeline; what is wrong with them, or with us, ends the stream."""
        last = -1
        try:
            async for request in requests:
                if request.WhichOneof("message") != "picture":
                    raise invalid_field("message", "every message after the first must be `picture`")
                sequence = request.picture.sequence
                if sequence <= last:
                    raise InvalidArgument("SEQUENCE_NOT_RISING", f"sequence {sequence} is not above {last}, the one before it")
                last = sequence
                await self._pipeline.put(stream, sequence, request.picture.picture.data)
            stream.end()
        except Exception as error:
            stream.failed(error)


async def _opening(requests: Requests) -> Target:
    """Return what the first message of a stream opens."""
    first = await anext(aiter(requests), None)
    if first is None or first.WhichOneof("message") != "open":
        raise invalid_field("message", "the first message must be `open`")
    return _target("open", first.open)


def _target(field: str, target: embedder_pb2.Target) -> Target:
    model, number, alias = parse_model(f"{field}.model", target.model)
    profile = check_id(f"{field}.profile", target.profile) if target.profile else None
    fingerprint = None
    if target.HasField("expected_space"):
        fingerprint = target.expected_space.fingerprint
        if not 1 <= len(fingerprint.encode()) <= 80:
            raise invalid_field(
                f"{field}.expected_space.fingerprint", "it must have 1 to 80 bytes; leave expected_space out to expect none"
            )
    return Target(model, number, profile, fingerprint, alias)


def _pictures(request: embedder_pb2.EmbedRequest) -> list[bytes]:
    if not 1 <= len(request.pictures) <= MAX_PICTURES:
        raise invalid_field("pictures", f"{len(request.pictures)} pictures: 1 to {MAX_PICTURES} a call, use EmbedStream for more")
    pictures = [picture.data for picture in request.pictures]
    if (size := sum(map(len, pictures))) > MAX_BYTES:
        raise invalid_field("pictures", f"{size} bytes together: at most {MAX_BYTES} a call, use EmbedStream for more")
    return pictures


def _check_rows(pictures: int, profile: ServedProfile) -> None:
    """Hold an answer to the 2 MiB that a VectorBatch may have."""
    most = rows_per_batch(profile.space.dim)
    if pictures > most:
        raise invalid_field(
            "pictures", f"{pictures} pictures: at most {most} a call with vectors of {profile.space.dim} numbers, use EmbedStream for more"
        )


def _deadline(context: Context) -> float | None:
    remaining = context.time_remaining()
    return None if remaining is None else time.monotonic() + remaining


def _space(profile: ServedProfile) -> space_pb2.Space:
    space = profile.space
    return space_message(space.fingerprint, space.model, int(space.version), space.profile, space.dim)


def _result(result: int | PictureError) -> embedder_pb2.PictureResult:
    if isinstance(result, int):
        return embedder_pb2.PictureResult(row=result)
    return embedder_pb2.PictureResult(error=picture_status(result))


def _responses(answer: StreamAnswer, space: space_pb2.Space) -> list[embedder_pb2.EmbedStreamResponse]:
    """Return an answer as messages that keep the limit of a VectorBatch."""
    match answer:
        case Refused(sequence, error, cost):
            failure = embedder_pb2.PictureFailure(sequence=sequence, error=picture_status(error), cost=_cost(cost))
            return [embedder_pb2.EmbedStreamResponse(failure=failure)]
        case BatchEmbedded(sequences, vectors, cost):
            most = rows_per_batch(space.dim)
            return [
                embedder_pb2.EmbedStreamResponse(
                    batch=embedder_pb2.EmbeddedBatch(
                        sequences=sequences[at : at + most], vectors=pack_vectors(vectors[at : at + most], space), cost=_cost(cost)
                    )
                )
                for at in range(0, len(sequences), most)
            ]


def _cost(cost: Cost) -> embedder_pb2.Cost:
    return embedder_pb2.Cost(
        decode_seconds=cost.decode_seconds,
        queue_seconds=cost.queue_seconds,
        device_seconds=cost.device_seconds,
        batch_size=cost.batch_size,
        wait_seconds=cost.wait_seconds,
        device=cost.device,
        precision=cost.precision,
    )
