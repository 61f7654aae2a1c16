"""One picture, one vector; and a bad picture fails alone."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable

import grpc
import numpy as np
import pytest
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from numpy.typing import NDArray
from PIL import Image

from lookalike_model.bundle import Bundle
from lookalike_model.embedding_model import EmbeddingModel
from lookalike_protos.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from lookalike_protos.packing import unpack_vectors

TARGET = embedder_pb2.Target(model="models/tiny")


def embed_request(pictures: list[bytes], target: embedder_pb2.Target = TARGET) -> embedder_pb2.EmbedRequest:
    return embedder_pb2.EmbedRequest(target=target, pictures=[embedder_pb2.Picture(data=data) for data in pictures])


async def stream_requests(
    pictures: dict[int, bytes], target: embedder_pb2.Target = TARGET
) -> AsyncIterator[embedder_pb2.EmbedStreamRequest]:
    yield embedder_pb2.EmbedStreamRequest(open=target)
    for sequence, data in pictures.items():
        picture = embedder_pb2.SequencedPicture(sequence=sequence, picture=embedder_pb2.Picture(data=data))
        yield embedder_pb2.EmbedStreamRequest(picture=picture)


async def embed_all(
    channel: grpc.aio.Channel, pictures: dict[int, bytes], target: embedder_pb2.Target = TARGET
) -> tuple[dict[int, NDArray[np.float32]], dict[int, Status]]:
    """Return vectors and errors by sequence; each picture must be answered exactly once, after `opened`."""
    vectors: dict[int, NDArray[np.float32]] = {}
    errors: dict[int, Status] = {}
    answered: list[int] = []
    responses = embedder_pb2_grpc.EmbedderServiceStub(channel).EmbedStream(stream_requests(pictures, target), timeout=60)
    kinds = []
    async for response in responses:
        kinds.append(response.WhichOneof("message"))
        if kinds[-1] == "batch":
            answered += response.batch.sequences
            vectors |= dict(zip(response.batch.sequences, unpack_vectors(response.batch.vectors), strict=True))
            assert response.batch.cost.batch_size >= len(response.batch.sequences)
        elif kinds[-1] == "failure":
            answered.append(response.failure.sequence)
            errors[response.failure.sequence] = response.failure.error
            assert response.failure.cost.decode_seconds > 0
            assert response.failure.cost.device_seconds == 0
    assert kinds.index("opened") == 0
    assert kinds.count("opened") == 1
    assert sorted(answered) == sorted(pictures)
    return vectors, errors


def distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float((1 - (a.astype(np.float64) * b.astype(np.float64)).sum(-1)).max())


def encoded(size: tuple[int, int], picture_format: str) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", size, (200, 30, 90)).save(target, format=picture_format)
    return target.getvalue()


def noise_png() -> bytes:
    target = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(target, format="PNG")
    return target.getvalue()


def bad_pictures() -> dict[str, bytes]:
    """One of each kind, by its reason; a corrupt one is damaged in its middle."""
    whole = noise_png()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    return {
        "EMPTY": b"",
        "TOO_MANY_BYTES": encoded((8, 8), "JPEG") + bytes(15 << 20),
        "TOO_MANY_PIXELS": encoded((9000, 8000), "PNG"),
        "UNSUPPORTED_FORMAT": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "TRUNCATED": whole[: len(whole) // 2],
        "CORRUPT": bytes(damaged),
    }


def reason_of(status: Status) -> str:
    info = ErrorInfo()
    assert status.code == Code.Value("INVALID_ARGUMENT")
    assert status.details[0].Unpack(info)
    return str(info.reason)


@pytest.mark.parametrize("profile", ["plain", "head"])
async def test_single_batched_streamed_and_trainer_give_one_vector(
    channel: grpc.aio.Channel, make_picture: Callable[[int], bytes], bundle: Bundle, profile: str
) -> None:
    pictures = [make_picture(seed) for seed in range(40)]
    target = embedder_pb2.Target(model="models/tiny/versions/1", profile=profile)
    stub = embedder_pb2_grpc.EmbedderServiceStub(channel)
    expected = EmbeddingModel.load(bundle, profile).embed_pictures(pictures, batch_size=7)

    batched = await stub.Embed(embed_request(pictures, target), timeout=60)
    single = [await stub.Embed(embed_request([picture], target), timeout=60) for picture in pictures[:8]]
    streamed, _ = await embed_all(channel, dict(enumerate(pictures)), target)

    assert distance(unpack_vectors(batched.vectors), expected) <= 1e-5
    assert distance(np.concatenate([unpack_vectors(answer.vectors) for answer in single]), expected[:8]) <= 1e-5
    assert distance(np.stack([streamed[i] for i in range(40)]), expected) <= 1e-5
    assert [result.row for result in batched.results] == list(range(40))
    assert batched.model_version == "models/tiny/versions/1"
    space = batched.vectors.space
    assert (space.fingerprint, space.profile) == (bundle.profiles[profile].fingerprint, profile)
    assert (space.model, space.version) == ("tiny", 1)
    assert batched.cost.decode_seconds > 0
    assert batched.cost.device_seconds > 0
    assert 1 <= batched.cost.batch_size <= 32


async def test_bad_picture_of_each_kind_fails_alone_in_a_stream(channel: grpc.aio.Channel, make_picture: Callable[[int], bytes]) -> None:
    bad = bad_pictures()
    pictures: dict[int, bytes] = {}
    for number, data in enumerate(bad.values()):
        pictures[10 * number] = make_picture(number)
        pictures[10 * number + 5] = data
    vectors, errors = await embed_all(channel, pictures)
    assert {reason_of(status) for status in errors.values()} == set(bad)
    assert [reason_of(errors[sequence]) for sequence in sorted(errors)] == list(bad)
    assert sorted(vectors) == [10 * number for number in range(len(bad))]
    assert all(status.message for status in errors.values())


async def test_bad_picture_fails_alone_in_a_call(channel: grpc.aio.Channel, make_picture: Callable[[int], bytes]) -> None:
    bad = bad_pictures()
    del bad["TOO_MANY_BYTES"]  # larger than a call may be
    good = [make_picture(1), make_picture(2)]
    stub = embedder_pb2_grpc.EmbedderServiceStub(channel)
    answer = await stub.Embed(embed_request([good[0], *bad.values(), good[1]]), timeout=60)
    assert [result.WhichOneof("result") for result in answer.results] == ["row", *["error"] * len(bad), "row"]
    assert [reason_of(result.error) for result in answer.results[1:-1]] == list(bad)
    alone = [unpack_vectors((await stub.Embed(embed_request([picture]), timeout=60)).vectors)[0] for picture in good]
    assert answer.results[-1].row == 1
    assert distance(unpack_vectors(answer.vectors), np.stack(alone)) <= 1e-5


async def test_call_of_bad_pictures_only_has_no_rows(channel: grpc.aio.Channel) -> None:
    answer = await embedder_pb2_grpc.EmbedderServiceStub(channel).Embed(embed_request([b"", b"text"]), timeout=60)
    assert len(unpack_vectors(answer.vectors)) == 0
    assert answer.vectors.space.fingerprint.startswith("ls1:")
    assert len(answer.results) == 2


async def test_stream_of_nothing_opens_and_ends(channel: grpc.aio.Channel) -> None:
    assert await embed_all(channel, {}) == ({}, {})
