"""A registry with a tiny model, and real embedder processes that serve it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import grpc
import numpy as np
import pytest
import torch
from PIL import Image

from lookalike_images import Preprocessing
from lookalike_model.bundle import Bundle
from lookalike_model.bundle_writer import BundleContent, write_bundle
from lookalike_model.ensemble import Ensemble
from lookalike_model.network import RetrievalNetwork
from lookalike_model.profile import Profile
from lookalike_model.registry import Index, Model, PublishedProfile, RegistryReader, Version, publish_bundle, write_index
from lookalike_model.spec import ChannelStatistics, EmbeddingSpec, NetworkSpec

MESSAGE_OPTIONS = [("grpc.max_receive_message_length", 16 << 20), ("grpc.max_send_message_length", -1)]

Publish = Callable[[Path, str, int, Bundle | Ensemble], None]
RunServer = Callable[..., AbstractContextManager[str]]


# Long vectors, so that few answers fill the windows of a connection.
HEAD = EmbeddingSpec(size=4096)


def tiny_network(seed: int) -> RetrievalNetwork:
    """A network whose batch norms have statistics, as after training: random ones would make all vectors alike."""
    torch.manual_seed(seed)
    statistics = ChannelStatistics(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    network = RetrievalNetwork(NetworkSpec(architecture="test_efficientnet", embedding=HEAD), statistics)
    network.train()
    with torch.no_grad():
        for _ in range(20):
            network(network.to_input(torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8)))
    return network.eval()


@pytest.fixture(scope="session")
def make_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Bundle]:
    """Write the bundle of a seed."""

    def make(seed: int) -> Bundle:
        profiles = {"plain": Profile(), "head": Profile(tap="embedding")}
        content = BundleContent("tiny", tiny_network(seed), Preprocessing(size=48), profiles)
        return write_bundle(tmp_path_factory.mktemp("bundles") / f"seed{seed}", content)

    return make


@pytest.fixture(scope="session")
def publish() -> Publish:
    """Publish a bundle as a version of a model."""

    def publish_version(registry: Path, model: str, number: int, bundle: Bundle | Ensemble) -> None:
        uid = f"{model}-{number}"
        version = Version(
            path=f"bundles/{uid}",
            manifest_sha256=publish_bundle(bundle.folder, str(registry), uid),
            create_time=datetime.now(UTC).isoformat(),
            default_profile=bundle.default_profile,
            profiles={name: PublishedProfile(fingerprint=p.fingerprint, dim=p.dim) for name, p in bundle.profiles.items()},
        )
        index = RegistryReader(str(registry)).index()
        before = index.models.get(model, Model(aliases={}, versions={}))
        after = before.model_copy(update={"versions": {**before.versions, str(number): version}})
        write_index(str(registry), Index(sequence=index.sequence + 1, models={**index.models, model: after}))

    return publish_version


@pytest.fixture(scope="session")
def bundle(make_bundle: Callable[[int], Bundle]) -> Bundle:
    """The bundle of `models/tiny/versions/1`."""
    return make_bundle(0)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory, publish: Publish, bundle: Bundle) -> Path:
    """A registry with `models/tiny/versions/1`; no test changes it."""
    folder = tmp_path_factory.mktemp("registry")
    publish(folder, "tiny", 1, bundle)
    return folder


@pytest.fixture(scope="session")
def run_server(tmp_path_factory: pytest.TempPathFactory) -> RunServer:
    """Run an embedder over a registry, with more flags; gives its address."""

    @contextmanager
    def run(registry: Path, *flags: str) -> Iterator[str]:
        folder = tmp_path_factory.mktemp("server")
        announcement, log = folder / "announced.json", folder / "log"
        command = [sys.executable, "-m", "lookalike_embedder", "--registry", str(registry), "--announce", str(announcement)]
        command += ["--torch-threads", "1", "--poll-seconds", "0.1", "--drain-seconds", "2", "--cache", str(folder / "cache")]
        command += ["--precision", "fp32", "--measure-seconds", "0", *flags]
        with log.open("wb") as stderr:
            process = subprocess.Popen(command, stderr=stderr, env={**os.environ, "OMP_NUM_THREADS": "1"})
        try:
            deadline = time.monotonic() + 60
            while not announcement.exists():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, "the server does not start"
                time.sleep(0.02)
            yield json.loads(announcement.read_text())["address"]
            assert process.poll() is None, log.read_text()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)

    return run


@pytest.fixture(scope="session")
def address(run_server: RunServer, registry: Path) -> Iterator[str]:
    """The address of a server with the usual settings."""
    with run_server(registry) as served:
        yield served


@pytest.fixture
async def channel(address: str) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to that server."""
    async with grpc.aio.insecure_channel(address, options=MESSAGE_OPTIONS) as opened:
        yield opened


@pytest.fixture(scope="session")
def make_picture() -> Callable[[int], bytes]:
    """An encoded picture of a seed: JPEG, PNG or WebP, of several shapes."""

    def make(seed: int) -> bytes:
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 256, (int(rng.integers(3, 9)), int(rng.integers(3, 9)), 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((int(rng.integers(30, 160)), int(rng.integers(30, 160))))
        encoded = io.BytesIO()
        image.save(encoded, format=("JPEG", "PNG", "WEBP")[seed % 3])
        return encoded.getvalue()

    return make


@pytest.fixture(scope="session")
def noise_picture() -> bytes:
    """A PNG of 5 KB."""
    encoded = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(encoded, format="PNG")
    return encoded.getvalue()
