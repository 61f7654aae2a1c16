"""What a caller does wrong, or how it goes, costs the others nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_status import rpc_status

from lookalike_protos.embedder.v1 import embedder_pb2, embedder_pb2_grpc

TARGET = embedder_pb2.Target(model="models/tiny")
Message = embedder_pb2.EmbedStreamRequest


def picture(sequence: int, data: bytes) -> Message:
    return Message(picture=embedder_pb2.SequencedPicture(sequence=sequence, picture=embedder_pb2.Picture(data=data)))


@pytest.fixture(scope="module")
def small_address(run_server: Callable[..., AbstractContextManager[str]], registry: Path) -> Iterator[str]:
    """A server with little room."""
    with run_server(registry, "--queue-pictures", "64", "--stream-pictures", "16", "--batch-size", "4", "--decode-threads", "1") as address:
        yield address


async def read_to_the_end(call: grpc.aio.StreamStreamCall[Message, embedder_pb2.EmbedStreamResponse]) -> list[int]:
    """Return the sequences of all batches."""
    sequences: list[int] = []
    while isinstance(response := await call.read(), embedder_pb2.EmbedStreamResponse):
        sequences += response.batch.sequences
    return sequences


async def test_overload_is_answered_at_once_with_when_to_come_again(small_address: str, make_picture: Callable[[int], bytes]) -> None:
    request = embedder_pb2.EmbedRequest(target=TARGET, pictures=[embedder_pb2.Picture(data=make_picture(i)) for i in range(40)])
    async with grpc.aio.insecure_channel(small_address) as channel:
        stub = embedder_pb2_grpc.EmbedderServiceStub(channel)
        answers = await asyncio.gather(*(stub.Embed(request, timeout=60) for _ in range(12)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert 0 < len(refused) < len(answers)
    assert all(len(answer.results) == 40 for answer in answers if isinstance(answer, embedder_pb2.EmbedResponse))
    for error in refused:
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        status, info, retry = rpc_status.from_call(error), ErrorInfo(), RetryInfo()
        assert status.details[0].Unpack(info)
        assert status.details[1].Unpack(retry)
        assert info.reason == "QUEUE_FULL"
        assert retry.retry_delay.ToTimedelta().total_seconds() > 0


async def test_client_that_sends_and_never_reads_is_stopped_by_flow_control(small_address: str, noise_picture: bytes) -> None:
    # The connection's windows hold about 4 MiB each way: 250 answers, and 1,000 pictures of 5 KB.
    most = 5_000
    async with grpc.aio.insecure_channel(small_address) as channel:
        call = embedder_pb2_grpc.EmbedderServiceStub(channel).EmbedStream()
        await call.write(Message(open=embedder_pb2.Target(model="models/tiny", profile="head")))
        sent = 0
        writing = asyncio.ensure_future(call.write(picture(0, noise_picture)))
        while sent < most and await finishes(writing):
            sent += 1
            writing = asyncio.ensure_future(call.write(picture(sent, noise_picture)))
        assert sent < most, "the server took all pictures of a client that reads no answer"

        reading = asyncio.ensure_future(read_to_the_end(call))
        await writing
        await call.done_writing()
        answered = await reading
        assert sorted(answered) == list(range(sent + 1))


async def finishes(writing: asyncio.Future[None]) -> bool:
    done, _ = await asyncio.wait([writing], timeout=3)
    return bool(done)


async def test_clients_that_disappear_leave_their_places_to_others(small_address: str, make_picture: Callable[[int], bytes]) -> None:
    async with grpc.aio.insecure_channel(small_address) as channel:
        stub = embedder_pb2_grpc.EmbedderServiceStub(channel)
        for _ in range(12):
            call = stub.EmbedStream()
            await call.write(Message(open=TARGET))
            for sequence in range(12):
                await call.write(picture(sequence, make_picture(sequence)))
            call.cancel()
        request = embedder_pb2.EmbedRequest(target=TARGET, pictures=[embedder_pb2.Picture(data=make_picture(0))] * 64)
        for _ in range(12):
            stub.Embed(request).cancel()
        assert len((await stub.Embed(request, timeout=30, wait_for_ready=True)).results) == 64


async def test_call_past_its_deadline_ends_and_the_server_goes_on(small_address: str, make_picture: Callable[[int], bytes]) -> None:
    request = embedder_pb2.EmbedRequest(target=TARGET, pictures=[embedder_pb2.Picture(data=make_picture(0))] * 64)
    async with grpc.aio.insecure_channel(small_address) as channel:
        stub = embedder_pb2_grpc.EmbedderServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Embed(request, timeout=0.02)
        assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert len((await stub.Embed(request, timeout=30)).results) == 64
