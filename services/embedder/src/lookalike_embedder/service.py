"""The embedder as a service: its parts made and joined, started and stopped."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import grpc

from lookalike_embedder.fastest import FastestNumerics
from lookalike_embedder.loading import BundleLoader, choose_devices
from lookalike_embedder.models import ServedModels
from lookalike_embedder.pipeline import Pipeline
from lookalike_embedder.servicers.embed import EmbedderServicer
from lookalike_embedder.servicers.models import ServedModelServicer
from lookalike_embedder.settings import EmbedderSettings
from lookalike_model.cores import cores
from lookalike_model.registry import RegistryReader
from lookalike_protos.embedder.v1 import embedder_pb2, embedder_pb2_grpc, models_pb2, models_pb2_grpc
from lookalike_runtime.errors import InvalidArgument
from lookalike_runtime.server import Health

NUMERICS = "numerics.json"


class EmbedderService:
    """Serves what the registry publishes."""

    def __init__(self, settings: EmbedderSettings) -> None:
        """Raises InvalidArgument if the registry's URL or the device cannot be used."""
        self._devices = choose_devices(settings.device)
        self._poll_seconds = settings.poll_seconds
        self._pipeline = Pipeline(settings.limits, [cores() if device == "cpu" else 1 for device in self._devices])
        reader = _open_registry(settings.registry_url)
        fastest = FastestNumerics(settings.measuring, settings.cache_folder / NUMERICS, self._pipeline.try_alone)
        loader = BundleLoader(reader, settings.cache_folder, self._devices, fastest)
        self._models = ServedModels(reader.index, loader, settings.room)
        self._following: asyncio.Task[None] | None = None

    def add_to(self, server: grpc.aio.Server) -> list[str]:
        """Add both servicers."""
        embedder_pb2_grpc.add_EmbedderServiceServicer_to_server(EmbedderServicer(self._models, self._pipeline), server)
        models_pb2_grpc.add_ServedModelServiceServicer_to_server(ServedModelServicer(self._models, self._devices), server)
        files = (embedder_pb2.DESCRIPTOR, models_pb2.DESCRIPTOR)
        return [service.full_name for file in files for service in file.services_by_name.values()]

    async def start(self, health: Health) -> None:
        """Start the pipeline, and follow the registry."""
        self._pipeline.start()

        async def report(name: str, serving: bool) -> None:
            await health.set(name, serving=serving)

        self._following = asyncio.create_task(self._models.run(self._poll_seconds, report))

    async def stop(self) -> None:
        """Stop both."""
        if self._following is not None:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following
        await self._pipeline.stop()


def _open_registry(url: str) -> RegistryReader:
    try:
        return RegistryReader(url)
    except (ValueError, ImportError) as error:
        raise InvalidArgument("INVALID_SETTING", f"registry {url!r} cannot be opened: {error}") from None
