"""Every limit and every wrong request has its status, its reason, and a message that names what was wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import grpc
import pytest
from google.rpc import code_pb2
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from lookalike_model.bundle import Bundle
from lookalike_protos.embedder.v1 import embedder_pb2, embedder_pb2_grpc, models_pb2, models_pb2_grpc
from lookalike_protos.types.v1 import space_pb2

MIB = 1 << 20
Message = embedder_pb2.EmbedStreamRequest


def picture(sequence: int, data: bytes = b"no picture") -> Message:
    return Message(picture=embedder_pb2.SequencedPicture(sequence=sequence, picture=embedder_pb2.Picture(data=data)))


def opening(model: str = "models/tiny", profile: str = "", expected: str | None = None) -> Message:
    target = embedder_pb2.Target(model=model, profile=profile)
    if expected is not None:
        target.expected_space.CopyFrom(space_pb2.Space(fingerprint=expected))
    return Message(open=target)


async def embed(channel: grpc.aio.Channel, target: embedder_pb2.Target, pictures: Iterable[bytes]) -> embedder_pb2.EmbedResponse:
    request = embedder_pb2.EmbedRequest(target=target, pictures=[embedder_pb2.Picture(data=data) for data in pictures])
    return await embedder_pb2_grpc.EmbedderServiceStub(channel).Embed(request, timeout=30)


async def stream(address: str, messages: list[Message]) -> None:
    """Send all messages. grpc.aio may report INTERNAL when the server ends a stream while it writes; the sync client reports the status."""

    def run() -> None:
        with grpc.insecure_channel(address) as channel:
            for _ in embedder_pb2_grpc.EmbedderServiceStub(channel).EmbedStream(iter(messages), timeout=30):
                pass

    await asyncio.to_thread(run)


def details(error: grpc.RpcError) -> tuple[str, str, list[str]]:
    """Return status code, reason, and the names of the wrong fields."""
    status: Status = rpc_status.from_call(error)
    info, wrong = ErrorInfo(), BadRequest()
    assert status.details[0].Unpack(info)
    for detail in status.details[1:]:
        detail.Unpack(wrong)
    assert status.message
    return code_pb2.Code.Name(status.code), info.reason, [violation.field for violation in wrong.field_violations]


@pytest.mark.parametrize("count", [0, 65])
async def test_call_takes_1_to_64_pictures(channel: grpc.aio.Channel, count: int) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await embed(channel, opening().open, [b"x"] * count)
    assert details(raised.value) == ("INVALID_ARGUMENT", "INVALID_FIELD", ["pictures"])
    assert str(count) in str(raised.value.details())


async def test_call_takes_64_pictures_of_15_mib_together(channel: grpc.aio.Channel) -> None:
    answer = await embed(channel, opening().open, [bytes(15 * MIB // 64)] * 64)
    assert len(answer.results) == 64
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await embed(channel, opening().open, [bytes(15 * MIB), b"x"])
    assert details(raised.value) == ("INVALID_ARGUMENT", "INVALID_FIELD", ["pictures"])


async def test_message_over_16_mib_is_refused(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await embed(channel, opening().open, [bytes(16 * MIB)])
    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


WRONG_TARGETS = {
    "unknown model": (opening("models/nobody"), "NOT_FOUND", "MODEL_NOT_FOUND", []),
    "unknown version": (opening("models/tiny/versions/7"), "NOT_FOUND", "MODEL_NOT_FOUND", []),
    "unknown profile": (opening(profile="tuned"), "NOT_FOUND", "MODEL_NOT_FOUND", []),
    "no model": (opening(""), "INVALID_ARGUMENT", "INVALID_FIELD", ["model"]),
    "no name of a model": (opening("tiny"), "INVALID_ARGUMENT", "INVALID_FIELD", ["model"]),
    "a way out of the folder": (opening("models/../versions/1"), "INVALID_ARGUMENT", "INVALID_FIELD", ["model"]),
    "no number": (opening("models/tiny/versions/latest"), "INVALID_ARGUMENT", "INVALID_FIELD", ["model"]),
    "no name of a profile": (opening(profile="A" * 64), "INVALID_ARGUMENT", "INVALID_FIELD", ["profile"]),
    "another space": (opening(expected="ls1:" + "0" * 64), "FAILED_PRECONDITION", "SPACE_MISMATCH", []),
    "a space without fingerprint": (opening(expected=""), "INVALID_ARGUMENT", "INVALID_FIELD", ["expected_space.fingerprint"]),
}


@pytest.mark.parametrize("case", WRONG_TARGETS)
async def test_wrong_target_is_refused_by_call_and_stream(channel: grpc.aio.Channel, address: str, case: str) -> None:
    message, code, reason, fields = WRONG_TARGETS[case]
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await embed(channel, message.open, [b"x"])
    assert details(raised.value) == (code, reason, [f"target.{field}" for field in fields])
    with pytest.raises(grpc.RpcError) as refused:
        await stream(address, [message, picture(1)])
    assert details(refused.value) == (code, reason, [f"open.{field}" for field in fields])


async def test_expected_space_that_fits_is_accepted(channel: grpc.aio.Channel, bundle: Bundle) -> None:
    await embed(channel, opening(expected=bundle.profiles["plain"].fingerprint).open, [b"x"])
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await embed(channel, opening(profile="head", expected=bundle.profiles["plain"].fingerprint).open, [b"x"])
    assert details(raised.value)[1] == "SPACE_MISMATCH"


WRONG_STREAMS = {
    "nothing": ([], "INVALID_FIELD"),
    "a picture first": ([picture(1)], "INVALID_FIELD"),
    "an empty message first": ([Message()], "INVALID_FIELD"),
    "an empty message later": ([opening(), Message()], "INVALID_FIELD"),
    "opened twice": ([opening(), picture(1), opening()], "INVALID_FIELD"),
    "a falling sequence": ([opening(), picture(5), picture(4)], "SEQUENCE_NOT_RISING"),
    "a repeated sequence": ([opening(), picture(0), picture(0)], "SEQUENCE_NOT_RISING"),
}


@pytest.mark.parametrize("case", WRONG_STREAMS)
async def test_wrong_stream_is_refused(address: str, case: str) -> None:
    messages, reason = WRONG_STREAMS[case]
    with pytest.raises(grpc.RpcError) as raised:
        await stream(address, messages)
    assert details(raised.value)[:2] == ("INVALID_ARGUMENT", reason)


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [
        ("models/nobody", "NOT_FOUND", "MODEL_NOT_FOUND"),
        ("models/tiny/versions/9", "NOT_FOUND", "MODEL_NOT_FOUND"),
        ("tiny", "INVALID_ARGUMENT", "INVALID_FIELD"),
    ],
)
async def test_wrong_name_of_a_served_model_is_refused(channel: grpc.aio.Channel, name: str, code: str, reason: str) -> None:
    stub = models_pb2_grpc.ServedModelServiceStub(channel)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: stub.GetServedModel(models_pb2.GetServedModelRequest(name=name), timeout=10),
        lambda: stub.LoadModel(models_pb2.LoadModelRequest(name=name), timeout=10),
        lambda: stub.UnloadModel(models_pb2.UnloadModelRequest(name=name), timeout=10),
    ]
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call()
        assert details(raised.value)[:2] == (code, reason)
