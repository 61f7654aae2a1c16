"""ModelService on the wire."""

# ruff: noqa: ARG002, N802 (names and arguments are gRPC's)

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty

from lookalike_model.profile import DbaAdvice
from lookalike_model.registry import MANIFEST, bundle_files
from lookalike_protos.trainer.v1 import models_pb2 as pb
from lookalike_protos.trainer.v1.models_pb2_grpc import ModelServiceServicer
from lookalike_protos.types.v1 import dba_pb2
from lookalike_protos.types.v1.files_pb2 import FileChunk
from lookalike_protos.types.v1.space_pb2 import METRIC_COSINE, Space
from lookalike_runtime.errors import invalid_field
from lookalike_runtime.paging import decode_token, encode_token, page_size
from lookalike_runtime.resource_names import parse_model, parse_name, parse_number, parse_optional_version
from lookalike_trainer.model_aliases import ModelAlias
from lookalike_trainer.models import Models, ModelVersion
from lookalike_trainer.outcome import ResultProfile, weights_kind
from lookalike_trainer.servicers.file_messages import file_chunks
from lookalike_trainer.servicers.number_tokens import decode_number
from lookalike_trainer.servicers.timestamps import timestamp

Context = grpc.aio.ServicerContext[Any, Any]


class ModelServicer(ModelServiceServicer):
    """Translates calls about models."""

    def __init__(self, models: Models) -> None:
        self._models = models

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        size = page_size(request.page_size)
        found = await asyncio.to_thread(self._models.page, decode_token(request.page_token) or "", size + 1)
        models = [
            pb.Model(name=f"models/{version.model}", latest=_version(version), version_count=count) for version, count in found[:size]
        ]
        token = encode_token(found[size - 1][0].model) if len(found) > size else ""
        return pb.ListModelsResponse(models=models, next_page_token=token)

    async def GetModelVersion(self, request: pb.GetModelVersionRequest, context: Context) -> pb.ModelVersion:
        return _version(await asyncio.to_thread(self._named, "name", request.name))

    async def ListModelVersions(self, request: pb.ListModelVersionsRequest, context: Context) -> pb.ListModelVersionsResponse:
        (model,) = parse_name("parent", request.parent, "models")
        size = page_size(request.page_size)
        found = await asyncio.to_thread(self._models.versions, model, decode_number(request.page_token), size + 1)
        token = encode_token(str(found[size - 1].number)) if len(found) > size else ""
        return pb.ListModelVersionsResponse(versions=[_version(version) for version in found[:size]], next_page_token=token)

    async def DeleteModel(self, request: pb.DeleteModelRequest, context: Context) -> Empty:
        name, number = parse_optional_version("name", request.name, "models", "versions")
        await asyncio.to_thread(lambda: self._models.delete(name, number, force=request.force))
        return Empty()

    async def DownloadModelVersion(self, request: pb.DownloadModelVersionRequest, context: Context) -> AsyncIterator[FileChunk]:
        version = await asyncio.to_thread(self._named, "name", request.name)
        folder = await asyncio.to_thread(self._models.bundle, version.model, version.number)
        # The manifest comes last, as in the registry: a download is whole once it is there.
        async for chunk in file_chunks(folder, [*await asyncio.to_thread(bundle_files, folder), MANIFEST]):
            yield chunk

    async def SetModelAlias(self, request: pb.SetModelAliasRequest, context: Context) -> pb.ModelAlias:
        model, alias = parse_name("alias.name", request.alias.name, "models", "aliases")
        of_model, number = parse_name("alias.version", request.alias.version, "models", "versions")
        if of_model != model:
            raise invalid_field("alias.version", f"{request.alias.version!r} is no version of models/{model}, whose alias it would be")
        version = parse_number("alias.version", number)
        return _alias(await asyncio.to_thread(self._models.set_alias, model, alias, version, request.alias.etag))

    async def ListModelAliases(self, request: pb.ListModelAliasesRequest, context: Context) -> pb.ListModelAliasesResponse:
        (model,) = parse_name("parent", request.parent, "models")
        await asyncio.to_thread(self._models.get, model, None)
        found = await asyncio.to_thread(self._models.aliases.of, model)
        return pb.ListModelAliasesResponse(aliases=[_alias(each) for each in found])

    async def DeleteModelAlias(self, request: pb.DeleteModelAliasRequest, context: Context) -> Empty:
        model, alias = parse_name("name", request.name, "models", "aliases")
        await asyncio.to_thread(self._models.delete_alias, model, alias, request.etag)
        return Empty()

    def _named(self, field: str, name: str) -> ModelVersion:
        """The version that `models/M/versions/V`, `models/M@A` or `models/M` names."""
        model, number, alias = parse_model(field, name)
        return self._models.get(model, number if alias is None else self._models.aliases.get(model, alias).number)


def _alias(alias: ModelAlias) -> pb.ModelAlias:
    return pb.ModelAlias(name=alias.name, version=f"models/{alias.model}/versions/{alias.number}", etag=alias.etag)


def _version(version: ModelVersion) -> pb.ModelVersion:
    return pb.ModelVersion(
        name=version.name,
        profiles={name: _profile(version, name, profile) for name, profile in version.result.profiles.items()},
        default_profile=version.result.default_profile,
        metrics=version.result.metrics,
        origin=pb.Origin.Value(f"ORIGIN_{version.origin}"),
        dataset_fingerprint=version.dataset_fingerprint,
        create_time=timestamp(version.create_time),
        size_bytes=version.size,
        notes=version.result.notes,
        job=f"jobs/{version.job}",
    )


def _profile(version: ModelVersion, name: str, profile: ResultProfile) -> pb.ModelProfile:
    space = Space(
        fingerprint=profile.fingerprint, model=version.model, version=version.number, profile=name, dim=profile.dim, metric=METRIC_COSINE
    )
    return pb.ModelProfile(
        space=space,
        dba_advice=_dba(profile.dba_advice) if profile.dba_advice else None,
        tap=profile.tap or "",
        views=profile.views,
        projected=profile.projected,
    )


def _dba(advice: DbaAdvice) -> dba_pb2.DbaSpec:
    weights = dba_pb2.DbaWeights.Value(f"DBA_WEIGHTS_{weights_kind(advice).upper()}")
    return dba_pb2.DbaSpec(k=advice.k, weights=weights, power=advice.power or 0, rounds=advice.rounds)
