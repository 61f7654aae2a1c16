"""A thousand broken pictures: each has its own answer, and those beside them their vectors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TypeAlias

import grpc
import numpy as np
import pytest
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from numpy.typing import NDArray

from benchmarks.embedder.broken_pictures import KINDS, Broken, broken_pictures
from lookalike_images import PictureReason
from lookalike_protos.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from lookalike_protos.packing import unpack_vectors

SEED = 8
COUNT = 1_000
TARGET = embedder_pb2.Target(model="models/tiny")
Message = embedder_pb2.EmbedStreamRequest
Answer: TypeAlias = NDArray[np.float32] | Status

# What each kind may be refused for. A flipped bit may also leave a picture that decodes.
REASONS: Mapping[str, set[str]] = {
    "truncated": {"TRUNCATED", "CORRUPT", "UNSUPPORTED_FORMAT"},
    "flipped": {"TRUNCATED", "CORRUPT", "UNSUPPORTED_FORMAT", "TOO_MANY_PIXELS", "VECTOR"},
    "lying header": {"TRUNCATED", "CORRUPT", "TOO_MANY_PIXELS", "VECTOR"},
    "bomb": {"TOO_MANY_PIXELS"},
    "empty": {"EMPTY"},
    "text": {"UNSUPPORTED_FORMAT"},
    "zip": {"UNSUPPORTED_FORMAT"},
    "svg": {"UNSUPPORTED_FORMAT"},
}


@pytest.fixture(scope="module")
def broken() -> list[Broken]:
    return broken_pictures(COUNT, SEED)


def outcome(answer: Answer) -> str:
    """Return the reason, or VECTOR; the error must say what to do."""
    if isinstance(answer, np.ndarray):
        assert np.isfinite(answer).all()
        return "VECTOR"
    info = ErrorInfo()
    assert answer.code == Code.Value("INVALID_ARGUMENT")
    assert answer.message
    assert answer.details[0].Unpack(info)
    assert info.reason in set(PictureReason)
    return str(info.reason)


async def messages(pictures: list[bytes]) -> AsyncIterator[Message]:
    yield Message(open=TARGET)
    for sequence, data in enumerate(pictures):
        yield Message(picture=embedder_pb2.SequencedPicture(sequence=sequence, picture=embedder_pb2.Picture(data=data)))


async def stream(channel: grpc.aio.Channel, pictures: list[bytes]) -> list[Answer]:
    """Return the one answer of each picture."""
    answers: dict[int, list[Answer]] = defaultdict(list)
    async for response in embedder_pb2_grpc.EmbedderServiceStub(channel).EmbedStream(messages(pictures), timeout=120):
        if response.HasField("failure"):
            answers[response.failure.sequence].append(response.failure.error)
        if response.HasField("batch"):
            for sequence, vector in zip(response.batch.sequences, unpack_vectors(response.batch.vectors), strict=True):
                answers[sequence].append(vector)
    assert sorted(answers) == list(range(len(pictures)))
    assert all(len(each) == 1 for each in answers.values())
    return [answers[sequence][0] for sequence in range(len(pictures))]


async def call(channel: grpc.aio.Channel, pictures: list[bytes]) -> list[Answer]:
    request = embedder_pb2.EmbedRequest(target=TARGET, pictures=[embedder_pb2.Picture(data=data) for data in pictures])
    answer = await embedder_pb2_grpc.EmbedderServiceStub(channel).Embed(request, timeout=60)
    vectors = unpack_vectors(answer.vectors)
    return [vectors[each.row] if each.WhichOneof("result") == "row" else each.error for each in answer.results]


async def test_thousand_broken_pictures_fail_alone_in_a_stream(
    channel: grpc.aio.Channel, broken: list[Broken], make_picture: Callable[[int], bytes]
) -> None:
    good = [make_picture(seed) for seed in range(20)]
    expected = await call(channel, good)
    mixed = [data for number, each in enumerate(broken) for data in (each.data, good[number % 20])]
    answers = await stream(channel, mixed)

    seen: dict[str, set[str]] = defaultdict(set)
    for each, answer in zip(broken, answers[::2], strict=True):
        assert outcome(answer) in REASONS[each.kind], (each.kind, outcome(answer), each.data[:20])
        seen[each.kind].add(outcome(answer))
    assert set(seen) == set(KINDS)
    assert "VECTOR" in seen["flipped"]
    for number, answer in enumerate(answers[1::2]):
        wanted = expected[number % 20]
        assert isinstance(answer, np.ndarray)
        assert isinstance(wanted, np.ndarray)
        assert 1 - float(answer.astype(np.float64) @ wanted.astype(np.float64)) <= 1e-5
    assert [outcome(each) for each in await call(channel, good)] == ["VECTOR"] * 20, "the server goes on"


async def test_call_gives_each_broken_picture_the_outcome_that_a_stream_gives(
    channel: grpc.aio.Channel, broken: list[Broken], make_picture: Callable[[int], bytes]
) -> None:
    pictures = [each.data for each in broken[:160]]
    streamed = [outcome(answer) for answer in await stream(channel, pictures)]
    called: list[str] = []
    for at in range(0, len(pictures), 32):
        answers = await call(channel, [make_picture(0), *pictures[at : at + 32], make_picture(1)])
        assert (outcome(answers[0]), outcome(answers[-1])) == ("VECTOR", "VECTOR")
        called += [outcome(each) for each in answers[1:-1]]
    assert called == streamed


def test_the_fuzzer_draws_the_same_pictures_every_time(broken: list[Broken]) -> None:
    assert broken_pictures(64, SEED) == broken[:64]
