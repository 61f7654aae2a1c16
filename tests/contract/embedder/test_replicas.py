"""Whatever serves it, however it computes: one picture, one vector. Ensembles and views included."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike_images import Preprocessing
from lookalike_model.bundle import Bundle
from lookalike_model.bundle_writer import BundleContent, write_bundle
from lookalike_model.ensemble import Ensemble
from lookalike_model.ensemble_model import load_model
from lookalike_model.ensemble_writer import EnsembleContent, MemberSource, write_ensemble
from lookalike_model.profile import Profile
from lookalike_protos.embedder.v1 import embedder_pb2, embedder_pb2_grpc, models_pb2, models_pb2_grpc
from lookalike_protos.packing import unpack_vectors

from .conftest import MESSAGE_OPTIONS, tiny_network

Served = dict[str, str]
MODELS = ("models/viewed", "models/both")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, publish: Callable[..., None]) -> tuple[Path, dict[str, Bundle | Ensemble]]:
    """A registry with a model of many views and an ensemble of two networks that look at other sizes."""
    folder = tmp_path_factory.mktemp("bundles")
    views = {"plain": Profile(views=("identity", "flip", "scale-1.25"))}
    content = BundleContent("viewed", tiny_network(3), Preprocessing(size=48), views)
    viewed = write_bundle(folder / "viewed", content)
    other = write_bundle(folder / "other", replace(content, network=tiny_network(4), preprocessing=Preprocessing(size=32, resize="pad")))
    sources = [MemberSource(viewed.folder, "models/viewed/versions/1", weight=2), MemberSource(other.folder, "models/other/versions/1")]
    both = write_ensemble(folder / "both", EnsembleContent("both", sources))
    registry = tmp_path_factory.mktemp("registry")
    publish(registry, "viewed", 1, viewed)
    publish(registry, "both", 1, both)
    return registry, {"models/viewed": viewed, "models/both": both}


@pytest.fixture(scope="module")
def servers(published: tuple[Path, object], run_server: Callable[..., AbstractContextManager[str]]) -> Iterator[Served]:
    """Two replicas in fp32, of other batch sizes and layouts, and one in bf16."""
    flags = {
        "fp32": ("--batch-size", "4"),
        "measured": ("--measure-seconds", "0.3", "--torch-threads", "2"),
        "bf16": ("--precision", "bf16", "--batch-size", "7"),
    }
    with ExitStack() as stack:
        yield {name: stack.enter_context(run_server(published[0], *more)) for name, more in flags.items()}


async def vectors_of(
    channel: grpc.aio.Channel, model: str, pictures: list[bytes]
) -> tuple[list[NDArray[np.float32]], list[embedder_pb2.Cost]]:
    """The vectors of one call, of single calls and of a stream; and what they cost."""
    stub = embedder_pb2_grpc.EmbedderServiceStub(channel)
    target = embedder_pb2.Target(model=model)

    async def embed(some: list[bytes]) -> embedder_pb2.EmbedResponse:
        return await stub.Embed(embedder_pb2.EmbedRequest(target=target, pictures=[embedder_pb2.Picture(data=p) for p in some]), timeout=60)

    def requests() -> Iterator[embedder_pb2.EmbedStreamRequest]:
        yield embedder_pb2.EmbedStreamRequest(open=target)
        for sequence, data in enumerate(pictures):
            picture = embedder_pb2.SequencedPicture(sequence=sequence, picture=embedder_pb2.Picture(data=data))
            yield embedder_pb2.EmbedStreamRequest(picture=picture)

    together = await embed(pictures)
    alone = [await embed([picture]) for picture in pictures]
    rows: dict[int, NDArray[np.float32]] = {}
    costs = [together.cost, *(answer.cost for answer in alone)]
    async for response in stub.EmbedStream(requests(), timeout=60):
        if response.HasField("batch"):
            rows |= dict(zip(response.batch.sequences, unpack_vectors(response.batch.vectors), strict=True))
            costs.append(response.batch.cost)
    streamed = np.stack([rows[sequence] for sequence in range(len(pictures))])
    return [unpack_vectors(together.vectors), np.concatenate([unpack_vectors(a.vectors) for a in alone]), streamed], costs


def distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float((1 - (a.astype(np.float64) * b.astype(np.float64)).sum(-1)).max())


@pytest.mark.parametrize("model", MODELS)
async def test_each_replica_and_each_way_of_asking_gives_the_trainers_vector(
    servers: Served, published: tuple[Path, dict[str, Bundle | Ensemble]], make_picture: Callable[[int], bytes], model: str
) -> None:
    pictures = [make_picture(seed) for seed in range(20)]
    expected = load_model(published[1][model]).embed_pictures(pictures)
    for name, address in servers.items():
        async with grpc.aio.insecure_channel(address, options=MESSAGE_OPTIONS) as channel:
            vectors, costs = await vectors_of(channel, model, pictures)
            precision = (await status(channel, model)).precision
        assert precision in ((name,) if name != "measured" else ("fp32",))
        for each in vectors:
            assert distance(each, expected) <= (1e-3 if name == "bf16" else 1e-5)
        for cost in costs:
            assert (cost.device, cost.precision) == ("cpu", precision)
            assert min(cost.decode_seconds, cost.device_seconds) > 0
            assert min(cost.queue_seconds, cost.wait_seconds) >= 0
            assert 1 <= cost.batch_size <= {"fp32": 4, "bf16": 7}.get(name, 32)


async def status(channel: grpc.aio.Channel, model: str) -> models_pb2.ServedModel:
    return await models_pb2_grpc.ServedModelServiceStub(channel).GetServedModel(models_pb2.GetServedModelRequest(name=model), timeout=10)


async def test_an_ensemble_is_one_model_with_one_space(servers: Served, published: tuple[Path, dict[str, Bundle | Ensemble]]) -> None:
    async with grpc.aio.insecure_channel(servers["fp32"]) as channel:
        told = await status(channel, "models/both")
    both = published[1]["models/both"]
    assert {name: (space.fingerprint, space.dim) for name, space in told.spaces.items()} == {
        name: (entry.fingerprint, entry.dim) for name, entry in both.profiles.items()
    }
    assert isinstance(both, Ensemble)
    tensors = sum(tensor.nbytes for bundle in both.bundles for tensor in bundle.network.state_dict().values())
    assert 0.9 * tensors < told.memory_bytes < tensors, "batch norms are folded"
    assert (told.threads, told.channels_last) == (1, True)
    assert told.golden_error <= 1e-5


async def test_memory_limit_holds_over_a_socket(
    published: tuple[Path, object],
    run_server: Callable[..., AbstractContextManager[str]],
    tmp_path: Path,
    make_picture: Callable[[int], bytes],
) -> None:
    # The single model fits, the ensemble of two does not.
    with run_server(published[0], "--models-mib", "6", "--cache", str(tmp_path), "--measure-seconds", "0.1") as address:
        async with grpc.aio.insecure_channel(address, options=MESSAGE_OPTIONS) as channel:
            await vectors_of(channel, "models/viewed", [make_picture(0)])
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await vectors_of(channel, "models/both", [make_picture(0)])
            assert raised.value.code() == grpc.StatusCode.FAILED_PRECONDITION
            assert "--models-mib" in (raised.value.details() or "")
            await vectors_of(channel, "models/viewed", [make_picture(0)])
    remembered = json.loads((tmp_path / "numerics.json").read_text())
    assert [entry["precision"] for entry in remembered.values()] == ["fp32"]
