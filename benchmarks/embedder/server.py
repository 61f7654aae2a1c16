"""A real embedder over a registry with one network of random weights."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil

from benchmarks.process import ServerProcess
from lookalike_model.bundle import Bundle
from lookalike_model.numerics import Numerics, Precision
from lookalike_model.registry import Index, Model, PublishedProfile, Version, publish_bundle, write_index
from lookalike_protos.embedder.v1 import embedder_pb2, embedder_pb2_grpc, models_pb2, models_pb2_grpc

NAME = "models/bench"
TARGET = embedder_pb2.Target(model=NAME)
_LOAD_SECONDS = 300


class EmbedderProcess(ServerProcess):
    """One embedder that serves a bundle as `models/bench`, with the settings that it has by default."""

    def __init__(self, data: Path, bundle: Bundle, **settings: str) -> None:
        """Publish, start, and wait until the model is proven."""
        if not (data / "registry").exists():
            _publish(data / "registry", bundle)
        super().__init__("embedder", data, {}, beside=None, **settings)
        self.embedder = embedder_pb2_grpc.EmbedderServiceStub(self.channel)
        request = models_pb2.LoadModelRequest(name=NAME)
        self._served = models_pb2_grpc.ServedModelServiceStub(self.channel).LoadModel(request, timeout=_LOAD_SECONDS)

    def embed(self, pictures: Sequence[bytes]) -> float:
        """Embed in one call; return its seconds."""
        request = call_of(pictures)
        started = time.perf_counter()
        self.embedder.Embed(request, timeout=60)
        return time.perf_counter() - started

    def numerics(self) -> Numerics:
        """Return how its network computes, as it chose by measuring."""
        precision: Precision = "bf16" if self._served.precision == "bf16" else "fp32"
        return Numerics(precision, self._served.channels_last, self._served.compiled)

    @property
    def batch_threads(self) -> int:
        """How many threads a batch has, as it chose by measuring."""
        return self._served.threads

    def anonymous_bytes(self) -> int:
        """Return how much memory of its own the server holds: what is resident, less files and what is shared."""
        memory = psutil.Process(self.process.pid).memory_info()
        return int(memory.rss - memory.shared)


def call_of(pictures: Sequence[bytes]) -> embedder_pb2.EmbedRequest:
    """Return the request for a few pictures."""
    return embedder_pb2.EmbedRequest(target=TARGET, pictures=[embedder_pb2.Picture(data=data) for data in pictures])


def _publish(registry: Path, bundle: Bundle) -> None:
    registry.mkdir(parents=True)
    profiles = {name: PublishedProfile(fingerprint=profile.fingerprint, dim=profile.dim) for name, profile in bundle.profiles.items()}
    version = Version(
        path="bundles/bench-1",
        manifest_sha256=publish_bundle(bundle.folder, str(registry), "bench-1"),
        create_time=datetime.now(UTC).isoformat(),
        default_profile=bundle.default_profile,
        profiles=profiles,
    )
    write_index(str(registry), Index(sequence=1, models={"bench": Model(aliases={}, versions={"1": version})}))
