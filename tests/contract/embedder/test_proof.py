"""The golden proof is real: whoever changes a bundle and recomputes all its checksums and fingerprints still misses the golden vectors."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
import torch
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from lookalike_images import Preprocessing
from lookalike_model.bundle import GOLDEN_VECTORS, MODEL, Bundle, read_bundle
from lookalike_model.bundle_writer import BundleContent, write_bundle
from lookalike_model.network import RetrievalNetwork
from lookalike_model.spec import ChannelStatistics
from lookalike_protos.embedder.v1 import embedder_pb2, embedder_pb2_grpc, models_pb2, models_pb2_grpc

FORGERIES = ["filter", "statistics", "channels", "tensor"]


def first_convolution(network: RetrievalNetwork) -> torch.Tensor:
    return next(module for module in network.modules() if isinstance(module, torch.nn.Conv2d)).weight


def forge(bundle: Bundle, folder: Path, change: str) -> Bundle:
    """Write a bundle that agrees with itself in everything but the golden vectors, which stay the trainer's."""
    statistics = bundle.network.statistics
    if change == "statistics":
        statistics = ChannelStatistics(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    preprocessing: Preprocessing = bundle.preprocessing
    if change == "filter":
        preprocessing = replace(preprocessing, filter="bilinear")
    network = RetrievalNetwork(bundle.network.spec, statistics)
    network.load_state_dict(bundle.network.state_dict())
    with torch.no_grad():
        if change == "channels":
            first_convolution(network).copy_(first_convolution(network).flip(1))
        if change == "tensor":
            first_convolution(network)[0].mul_(1.5)
    profiles = {name: entry.profile for name, entry in bundle.profiles.items()}
    write_bundle(folder, BundleContent("forged", network, preprocessing, profiles))
    shutil.copy(bundle.folder / GOLDEN_VECTORS, folder / GOLDEN_VECTORS)
    return read_bundle(folder)


@pytest.fixture(scope="module")
def forged_address(
    tmp_path_factory: pytest.TempPathFactory,
    bundle: Bundle,
    publish: Callable[[Path, str, int, Bundle], None],
    run_server: Callable[..., AbstractContextManager[str]],
) -> Iterator[str]:
    """A server whose registry holds each forgery, a faithful copy, and a bundle that was damaged after it was published."""
    registry = tmp_path_factory.mktemp("forged_registry")
    for change in [*FORGERIES, "faithful"]:
        publish(registry, change, 1, forge(bundle, tmp_path_factory.mktemp("forged") / change, change))
    publish(registry, "damaged", 1, bundle)
    weights = registry / "bundles" / "damaged-1" / MODEL
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with run_server(registry, "--max-models", "8") as address:
        yield address


def embed(channel: grpc.Channel, model: str) -> embedder_pb2.EmbedResponse:
    request = embedder_pb2.EmbedRequest(target=embedder_pb2.Target(model=f"models/{model}"), pictures=[embedder_pb2.Picture(data=b"x")])
    return embedder_pb2_grpc.EmbedderServiceStub(channel).Embed(request, timeout=60)


def health_of(channel: grpc.Channel, name: str) -> str:
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def refusal(call: Callable[[], object]) -> ErrorInfo:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    status = rpc_status.from_call(raised.value)
    info = ErrorInfo()
    assert status.code == Code.Value("FAILED_PRECONDITION")
    assert status.details[0].Unpack(info)
    return info


@pytest.mark.parametrize("change", FORGERIES)
def test_forged_bundle_is_never_served(forged_address: str, change: str) -> None:
    with grpc.insecure_channel(forged_address) as channel:
        assert refusal(lambda: embed(channel, change)).reason == "MODEL_NOT_PROVEN"
        served = models_pb2_grpc.ServedModelServiceStub(channel)
        load = models_pb2.LoadModelRequest(name=f"models/{change}/versions/1")
        assert refusal(lambda: served.LoadModel(load, timeout=60)).reason == "MODEL_NOT_PROVEN"
        model = served.GetServedModel(models_pb2.GetServedModelRequest(name=f"models/{change}"), timeout=10)
        assert model.state == models_pb2.SERVING_STATE_FAILED
        assert model.golden_error > 1e-5
        assert f"{model.golden_error:.3g}" in model.error.message
        assert health_of(channel, model.name) == "NOT_SERVING"
        assert health_of(channel, "") == "SERVING"


def test_bundle_written_by_the_same_hand_without_a_change_is_served(forged_address: str) -> None:
    with grpc.insecure_channel(forged_address) as channel:
        assert embed(channel, "faithful").model_version == "models/faithful/versions/1"
        request = models_pb2.GetServedModelRequest(name="models/faithful/versions/1")
        model = models_pb2_grpc.ServedModelServiceStub(channel).GetServedModel(request, timeout=10)
        assert model.state == models_pb2.SERVING_STATE_READY
        assert 0 <= model.golden_error <= 1e-5
        assert (model.device, model.precision) == ("cpu", "fp32")
        assert health_of(channel, model.name) == "SERVING"


def test_bundle_damaged_after_it_was_published_is_never_served(forged_address: str) -> None:
    with grpc.insecure_channel(forged_address) as channel:
        assert refusal(lambda: embed(channel, "damaged")).reason == "MODEL_NOT_PROVEN"
        model = models_pb2_grpc.ServedModelServiceStub(channel).GetServedModel(
            models_pb2.GetServedModelRequest(name="models/damaged"), timeout=10
        )
        assert "checksum" in model.error.message
        assert health_of(channel, model.name) == "NOT_SERVING"
