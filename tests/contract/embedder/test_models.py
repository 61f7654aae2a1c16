"""The server follows the registry: new versions come, old ones go, and whoever is in the middle of a call ends it properly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lookalike_model.bundle import Bundle
from lookalike_model.registry import RegistryReader, write_index
from lookalike_protos.embedder.v1 import embedder_pb2, embedder_pb2_grpc, models_pb2, models_pb2_grpc

Message = embedder_pb2.EmbedStreamRequest
Publish = Callable[[Path, str, int, Bundle], None]
Stream = grpc.aio.StreamStreamCall[Message, embedder_pb2.EmbedStreamResponse]


@pytest.fixture(scope="module")
def other_bundle(make_bundle: Callable[[int], Bundle]) -> Bundle:
    return make_bundle(1)


@pytest.fixture(scope="module")
def live_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry that tests change, each a model of its own."""
    return tmp_path_factory.mktemp("live_registry")


@pytest.fixture(scope="module")
def live_address(live_registry: Path, run_server: Callable[..., AbstractContextManager[str]]) -> Iterator[str]:
    """A server over it that keeps one version in memory."""
    with run_server(live_registry, "--max-models", "1") as address:
        yield address


@pytest.fixture
async def live_channel(live_address: str) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(live_address) as channel:
        yield channel


async def embed(channel: grpc.aio.Channel, model: str, picture: bytes) -> embedder_pb2.EmbedResponse:
    target = embedder_pb2.Target(model=model)
    request = embedder_pb2.EmbedRequest(target=target, pictures=[embedder_pb2.Picture(data=picture)])
    return await embedder_pb2_grpc.EmbedderServiceStub(channel).Embed(request, timeout=30)


async def state_of(channel: grpc.aio.Channel, name: str) -> models_pb2.ServingState.ValueType:
    request = models_pb2.GetServedModelRequest(name=name)
    return (await models_pb2_grpc.ServedModelServiceStub(channel).GetServedModel(request, timeout=10)).state


async def is_healthy(channel: grpc.aio.Channel, name: str) -> bool:
    try:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
    except grpc.aio.AioRpcError as error:
        if error.code() == grpc.StatusCode.NOT_FOUND:
            return False
        raise
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def comes_true(question: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + 30
    while not await question():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@asynccontextmanager
async def open_stream(channel: grpc.aio.Channel, model: str, profile: str = "") -> AsyncIterator[Stream]:
    call = embedder_pb2_grpc.EmbedderServiceStub(channel).EmbedStream(timeout=60)
    await call.write(Message(open=embedder_pb2.Target(model=model, profile=profile)))
    opened = await call.read()
    assert isinstance(opened, embedder_pb2.EmbedStreamResponse)
    assert opened.opened.model_version
    yield call


async def embed_in(stream: Stream, sequence: int, picture: bytes) -> embedder_pb2.EmbedStreamResponse:
    await stream.write(Message(picture=embedder_pb2.SequencedPicture(sequence=sequence, picture=embedder_pb2.Picture(data=picture))))
    response = await stream.read()
    assert isinstance(response, embedder_pb2.EmbedStreamResponse)
    assert list(response.batch.sequences) == [sequence]
    return response


async def test_newest_version_is_loaded_without_being_asked_for_and_an_older_one_when_it_is(
    live_registry: Path,
    live_channel: grpc.aio.Channel,
    publish: Publish,
    bundle: Bundle,
    other_bundle: Bundle,
    make_picture: Callable[[int], bytes],
) -> None:
    publish(live_registry, "shoes", 1, bundle)
    await comes_true(lambda: is_healthy(live_channel, "models/shoes/versions/1"))
    publish(live_registry, "shoes", 2, other_bundle)
    assert (await embed(live_channel, "models/shoes/versions/2", make_picture(0))).vectors.space.version == 2
    publish(live_registry, "shoes", 10, bundle)
    await comes_true(lambda: is_healthy(live_channel, "models/shoes/versions/10"))
    assert (await embed(live_channel, "models/shoes", make_picture(0))).model_version == "models/shoes/versions/10"
    # There is room for one.
    assert await state_of(live_channel, "models/shoes/versions/2") == models_pb2.SERVING_STATE_UNLOADED
    assert not await is_healthy(live_channel, "models/shoes/versions/2")

    answer = await embed(live_channel, "models/shoes/versions/2", make_picture(0))
    assert answer.vectors.space.fingerprint == other_bundle.profiles["plain"].fingerprint
    assert await state_of(live_channel, "models/shoes/versions/10") == models_pb2.SERVING_STATE_UNLOADED
    listed = await models_pb2_grpc.ServedModelServiceStub(live_channel).ListServedModels(models_pb2.ListServedModelsRequest(), timeout=10)
    assert [model.name for model in listed.models] == ["models/shoes/versions/2"]


async def comes_to_be_embedded(channel: grpc.aio.Channel, model: str, picture: bytes) -> None:
    """Wait until there is room for a version."""

    async def is_embedded() -> bool:
        try:
            return bool(await embed(channel, model, picture))
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
                return False
            raise

    await comes_true(is_embedded)


async def test_version_in_use_is_never_unloaded_to_make_room(
    live_registry: Path,
    live_channel: grpc.aio.Channel,
    publish: Publish,
    bundle: Bundle,
    other_bundle: Bundle,
    make_picture: Callable[[int], bytes],
) -> None:
    publish(live_registry, "bags", 1, bundle)
    publish(live_registry, "bags", 2, other_bundle)
    async with open_stream(live_channel, "models/bags/versions/1") as stream:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await embed(live_channel, "models/bags/versions/2", make_picture(0))
        assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        await embed_in(stream, 1, make_picture(0))
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
    await comes_to_be_embedded(live_channel, "models/bags/versions/2", make_picture(0))


@pytest.mark.parametrize("reads", [True, False])
async def test_client_that_disappears_holds_no_version(
    live_registry: Path,
    live_channel: grpc.aio.Channel,
    publish: Publish,
    bundle: Bundle,
    other_bundle: Bundle,
    noise_picture: bytes,
    reads: bool,
) -> None:
    model = "reader" if reads else "sleeper"
    publish(live_registry, model, 1, bundle)
    publish(live_registry, model, 2, other_bundle)
    async with open_stream(live_channel, f"models/{model}/versions/1", profile="head") as stream:
        await embed_in(stream, 1, noise_picture)
        if not reads:  # until the server cannot send its answers any more
            await fill(stream, noise_picture)
        stream.cancel()
    await comes_to_be_embedded(live_channel, f"models/{model}/versions/2", noise_picture)


async def fill(stream: Stream, picture: bytes) -> None:
    """Send pictures until the server takes no more."""
    for sequence in range(2, 10_000):
        message = Message(picture=embedder_pb2.SequencedPicture(sequence=sequence, picture=embedder_pb2.Picture(data=picture)))
        writing = asyncio.ensure_future(stream.write(message))
        if not (await asyncio.wait([writing], timeout=2))[0]:
            writing.cancel()
            return
    pytest.fail("the server takes everything")


async def test_stream_outlives_the_deletion_of_its_version(
    live_registry: Path, live_channel: grpc.aio.Channel, publish: Publish, bundle: Bundle, make_picture: Callable[[int], bytes]
) -> None:
    publish(live_registry, "hats", 1, bundle)
    async with open_stream(live_channel, "models/hats") as stream:
        before = await embed_in(stream, 1, make_picture(0))
        index = RegistryReader(str(live_registry)).index()
        others = {name: model for name, model in index.models.items() if name != "hats"}
        write_index(str(live_registry), index.model_copy(update={"models": others}))

        async def is_gone() -> bool:
            return not await is_healthy(live_channel, "models/hats/versions/1")

        await comes_true(is_gone)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await embed(live_channel, "models/hats", make_picture(0))
        assert raised.value.code() == grpc.StatusCode.NOT_FOUND
        after = await embed_in(stream, 2, make_picture(0))
        assert after.batch.vectors == before.batch.vectors
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
        assert await stream.code() == grpc.StatusCode.OK


async def test_unloaded_version_comes_back_when_it_is_asked_for(
    live_registry: Path, live_channel: grpc.aio.Channel, publish: Publish, bundle: Bundle, make_picture: Callable[[int], bytes]
) -> None:
    publish(live_registry, "belts", 1, bundle)
    stub = models_pb2_grpc.ServedModelServiceStub(live_channel)
    await comes_true(lambda: is_healthy(live_channel, "models/belts/versions/1"))
    unloaded = await stub.UnloadModel(models_pb2.UnloadModelRequest(name="models/belts"), timeout=10)
    assert unloaded.state == models_pb2.SERVING_STATE_UNLOADED
    await asyncio.sleep(0.5)  # several looks at the registry
    assert await state_of(live_channel, "models/belts") == models_pb2.SERVING_STATE_UNLOADED
    loaded = await stub.LoadModel(models_pb2.LoadModelRequest(name="models/belts"), timeout=30)
    assert loaded.state == models_pb2.SERVING_STATE_READY
    assert set(loaded.spaces) == {"plain", "head"}
    assert (loaded.default_profile, loaded.spaces["head"].dim) == ("plain", 4096)
    await embed(live_channel, "models/belts", make_picture(0))


async def test_server_without_models_serves(tmp_path: Path, run_server: Callable[..., AbstractContextManager[str]]) -> None:
    with run_server(tmp_path / "nothing") as address:
        async with grpc.aio.insecure_channel(address) as channel:
            assert await is_healthy(channel, "")
            listed = await models_pb2_grpc.ServedModelServiceStub(channel).ListServedModels(
                models_pb2.ListServedModelsRequest(), timeout=10
            )
            assert not listed.models
