"""An alias moves while calls go on: none fails, and none is answered by a version that is not proven."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from lookalike_model.bundle import MODEL, Bundle
from lookalike_model.registry import Index, RegistryReader, write_index
from lookalike_protos.embedder.v1 import embedder_pb2, embedder_pb2_grpc, models_pb2, models_pb2_grpc

Publish = Callable[[Path, str, int, Bundle], None]


def move(registry: Path, model: str, alias: str, number: int) -> None:
    """Make an alias name a version, as the trainer publishes it."""
    index = RegistryReader(str(registry)).index()
    moved = index.models[model].model_copy(update={"aliases": {**index.models[model].aliases, alias: str(number)}})
    write_index(str(registry), Index(sequence=index.sequence + 1, models={**index.models, model: moved}))


@pytest.fixture(scope="module")
def registry_of_aliases(tmp_path_factory: pytest.TempPathFactory, publish: Publish, bundle: Bundle) -> Path:
    folder = tmp_path_factory.mktemp("aliased")
    publish(folder, "shoes", 1, bundle)
    move(folder, "shoes", "production", 1)
    return folder


@pytest.fixture(scope="module")
def aliased_address(registry_of_aliases: Path, run_server: Callable[..., AbstractContextManager[str]]) -> Iterator[str]:
    with run_server(registry_of_aliases) as address:
        yield address


@pytest.fixture
async def aliased_channel(aliased_address: str) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(aliased_address) as channel:
        yield channel


def request(model: str, picture: bytes) -> embedder_pb2.EmbedRequest:
    return embedder_pb2.EmbedRequest(target=embedder_pb2.Target(model=model), pictures=[embedder_pb2.Picture(data=picture)])


async def served(channel: grpc.aio.Channel, name: str) -> models_pb2.ServedModel:
    return await models_pb2_grpc.ServedModelServiceStub(channel).GetServedModel(models_pb2.GetServedModelRequest(name=name), timeout=10)


async def until(question: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not question():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_no_call_fails_while_an_alias_moves_and_all_are_of_one_version_after(
    registry_of_aliases: Path,
    aliased_channel: grpc.aio.Channel,
    publish: Publish,
    make_bundle: Callable[[int], Bundle],
    make_picture: Callable[[int], bytes],
) -> None:
    stub = embedder_pb2_grpc.EmbedderServiceStub(aliased_channel)
    answered: list[str] = []
    moved = asyncio.Event()
    enough = asyncio.Event()

    async def call() -> None:
        while not enough.is_set():
            answer = await stub.Embed(request("models/shoes@production", make_picture(0)), timeout=30)
            assert answer.vectors.space.version == int(answer.model_version.rpartition("/")[2])
            answered.append(answer.model_version)
            if answer.model_version.endswith("/2"):
                moved.set()

    calling = [asyncio.create_task(call()) for _ in range(4)]
    await until(lambda: len(answered) >= 20)
    before = len(answered)
    publish(registry_of_aliases, "shoes", 2, make_bundle(2))
    move(registry_of_aliases, "shoes", "production", 2)
    await asyncio.wait_for(moved.wait(), 60)
    after = len(answered)
    await until(lambda: len(answered) >= after + 20)
    enough.set()
    await asyncio.gather(*calling)
    assert set(answered[:before]) == {"models/shoes/versions/1"}
    assert set(answered) == {"models/shoes/versions/1", "models/shoes/versions/2"}
    # Calls that were under way keep their version; behind them there is only the new one.
    assert set(answered[after + 4 :]) == {"models/shoes/versions/2"}
    assert (await served(aliased_channel, "models/shoes@production")).aliases == ["production"]


async def test_alias_that_moves_to_what_is_not_proven_stays_and_says_by_how_much_that_is_off(
    registry_of_aliases: Path, aliased_channel: grpc.aio.Channel, publish: Publish, bundle: Bundle, make_picture: Callable[[int], bytes]
) -> None:
    publish(registry_of_aliases, "hats", 1, bundle)
    move(registry_of_aliases, "hats", "production", 1)
    stub = embedder_pb2_grpc.EmbedderServiceStub(aliased_channel)
    assert (await stub.Embed(request("models/hats@production", make_picture(0)), timeout=30)).model_version == "models/hats/versions/1"
    publish(registry_of_aliases, "hats", 2, bundle)
    weights = registry_of_aliases / "bundles" / "hats-2" / MODEL
    content = bytearray(weights.read_bytes())
    content[-2] ^= 0x40
    weights.write_bytes(content)
    move(registry_of_aliases, "hats", "production", 2)
    deadline = time.monotonic() + 30
    while (await served(aliased_channel, "models/hats/versions/2")).state != models_pb2.SERVING_STATE_FAILED:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    failed = await served(aliased_channel, "models/hats/versions/2")
    assert failed.waiting_aliases == ["production"]
    assert "not the file that was published" in failed.error.message
    assert (await stub.Embed(request("models/hats@production", make_picture(0)), timeout=30)).model_version == "models/hats/versions/1"
    assert (await served(aliased_channel, "models/hats@production")).name == "models/hats/versions/1"


@pytest.mark.parametrize(
    ("model", "code", "reason"),
    [
        ("models/shoes@staging", grpc.StatusCode.NOT_FOUND, "ALIAS_NOT_FOUND"),
        ("models/nothing@production", grpc.StatusCode.NOT_FOUND, "ALIAS_NOT_FOUND"),
        ("models/shoes@", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        ("models/shoes@a@b", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        ("models/shoes/versions/1@production", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        ("models/shoes@../x", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
    ],
)
async def test_wrong_alias_is_refused(aliased_channel: grpc.aio.Channel, model: str, code: grpc.StatusCode, reason: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await embedder_pb2_grpc.EmbedderServiceStub(aliased_channel).Embed(request(model, b"x"), timeout=30)
    assert raised.value.code() == code
    details = dict(raised.value.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    infos = [info for detail in Status.FromString(details).details if detail.Unpack(info := ErrorInfo())]
    assert [info.reason for info in infos] == [reason]
