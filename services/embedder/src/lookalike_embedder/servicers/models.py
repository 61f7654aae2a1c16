"""ServedModelService: what this replica serves."""

# ruff: noqa: N802, ARG002 (names and arguments are gRPC's)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc

from lookalike_embedder.models import ServedModels
from lookalike_embedder.servicers.translation import space_message
from lookalike_embedder.versions import ServedVersion, ServingState
from lookalike_protos.embedder.v1 import models_pb2, models_pb2_grpc
from lookalike_runtime.resource_names import parse_model
from lookalike_runtime.status import status_of

# As the proto says: the list is not paged.
MAX_LISTED = 1_000

Context = grpc.aio.ServicerContext[Any, Any]

_STATES = {
    ServingState.UNLOADED: models_pb2.SERVING_STATE_UNLOADED,
    ServingState.LOADING: models_pb2.SERVING_STATE_LOADING,
    ServingState.READY: models_pb2.SERVING_STATE_READY,
    ServingState.FAILED: models_pb2.SERVING_STATE_FAILED,
}


class ServedModelServicer(models_pb2_grpc.ServedModelServiceServicer):
    """Parses, asks the table, translates."""

    def __init__(self, models: ServedModels, devices: Sequence[str]) -> None:
        self._models = models
        self._device = ",".join(devices)

    async def ListServedModels(self, request: models_pb2.ListServedModelsRequest, context: Context) -> models_pb2.ListServedModelsResponse:
        versions = self._models.in_memory_or_failed()[:MAX_LISTED]
        return models_pb2.ListServedModelsResponse(models=[self._message(version) for version in versions])

    async def GetServedModel(self, request: models_pb2.GetServedModelRequest, context: Context) -> models_pb2.ServedModel:
        return self._message(await self._models.find(*_name(request.name)))

    async def LoadModel(self, request: models_pb2.LoadModelRequest, context: Context) -> models_pb2.ServedModel:
        return self._message(await self._models.load(*_name(request.name)))

    async def UnloadModel(self, request: models_pb2.UnloadModelRequest, context: Context) -> models_pb2.ServedModel:
        return self._message(await self._models.unload(*_name(request.name)))

    def _message(self, version: ServedVersion) -> models_pb2.ServedModel:
        published = version.published
        return models_pb2.ServedModel(
            name=version.name,
            state=_STATES[version.state],
            spaces={
                profile: space_message(space.fingerprint, version.model, version.number, profile, space.dim)
                for profile, space in published.profiles.items()
            },
            default_profile=published.default_profile,
            error=None if version.error is None else status_of(version.error),
            golden_error=version.golden_error or 0.0,
            device=self._device,
            precision=version.proven.numerics.precision if version.proven else "",
            channels_last=version.proven.numerics.channels_last if version.proven else False,
            compiled=version.proven.numerics.compiled if version.proven else False,
            threads=version.proven.threads.batch if version.proven and self._device == "cpu" else 0,
            memory_bytes=version.proven.memory_bytes if version.proven else 0,
            aliases=self._models.aliases.answered_by(version.model, version.number),
            waiting_aliases=self._models.aliases.waiting_for(version.model, version.number),
        )


def _name(name: str) -> tuple[str, int | None, str | None]:
    return parse_model("name", name)
