"""The trainer: datasets, recipes, jobs and models."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from lookalike._channel import Channel
from lookalike._config import Timeouts
from lookalike._download import receive_files
from lookalike._exceptions import Unavailable, WorkFailed
from lookalike._models import (
    CheckSpec,
    Dataset,
    DatasetRevision,
    EnsembleSpec,
    Event,
    ImportSpec,
    Job,
    ManifestEntry,
    Model,
    ModelAlias,
    ModelVersion,
    ProfileSpec,
    Recipe,
    RevisionFindings,
    State,
    TrainSpec,
)
from lookalike._pages import pages
from lookalike._status import BROKEN_WHILE_SENDING
from lookalike._watch import watch
from lookalike._wire import read, write
from lookalike_protos.trainer.v1 import (
    datasets_pb2,
    datasets_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    recipes_pb2,
    recipes_pb2_grpc,
)

_CHUNK_BYTES = 2 * 1024 * 1024
_ENTRIES_AT_ONCE = 10_000
_UPLOAD_BYTES = 64 * 1024 * 1024


class AsyncTrainer:
    """Calls of the trainer; `AsyncClient.trainer` is one."""

    def __init__(self, channel: Channel, timeouts: Timeouts) -> None:
        self._channel = channel
        self._timeouts = timeouts
        self._datasets = datasets_pb2_grpc.DatasetServiceStub(channel.grpc)
        self._jobs = jobs_pb2_grpc.JobServiceStub(channel.grpc)
        self._recipes = recipes_pb2_grpc.RecipeServiceStub(channel.grpc)
        self._models = models_pb2_grpc.ModelServiceStub(channel.grpc)

    async def find_missing_blobs(self, digests: Iterable[str]) -> frozenset[str]:
        """Return those of the SHA-256 `digests` (64 hexadecimal digits each) whose contents the server lacks."""
        wanted = sorted(set(digests))
        missing: set[str] = set()
        for start in range(0, len(wanted), _ENTRIES_AT_ONCE):
            request = datasets_pb2.FindMissingBlobsRequest(sha256=wanted[start : start + _ENTRIES_AT_ONCE])
            answer = await self._channel.unary(self._datasets.FindMissingBlobs, request, self._timeouts.call)
            missing.update(answer.missing_sha256)
        return frozenset(missing)

    async def upload_files(self, files: Sequence[tuple[Path, str, int]], sent: Callable[[int], None] | None = None) -> None:
        """Upload `files`, each a path, the SHA-256 of its content and its size in bytes.

        `sent` is called with the number of bytes that were handed over since the call before. What has arrived when an upload breaks off is
        kept: `find_missing_blobs` tells what to send again.
        """
        for batch in _batches_of_bytes(files):
            try:
                await self._upload(batch, sent or _ignore)
            except Unavailable as error:
                if error.reason != BROKEN_WHILE_SENDING:
                    raise
                # Sent one by one, the file that was refused is refused with the reason.
                missing = await self.find_missing_blobs(sha256 for _, sha256, _ in batch)
                for file in batch:
                    if file[1] in missing:
                        await self._upload([file], _ignore)

    async def _upload(self, files: Iterable[tuple[Path, str, int]], sent: Callable[[int], None]) -> None:
        await self._channel.unary(self._datasets.UploadBlobs, _chunks(files, sent), self._timeouts.upload)

    async def commit_revision(self, dataset: str, entries: Sequence[ManifestEntry]) -> DatasetRevision:
        """Make a revision of the dataset `dataset` (its id) of contents that the server has."""

        async def manifest() -> AsyncIterator[datasets_pb2.CommitRevisionRequest]:
            for start in range(0, max(1, len(entries)), _ENTRIES_AT_ONCE):
                part = [write(entry, datasets_pb2.ManifestEntry) for entry in entries[start : start + _ENTRIES_AT_ONCE]]
                yield datasets_pb2.CommitRevisionRequest(dataset="" if start else f"datasets/{dataset}", entries=part)

        return read(DatasetRevision, await self._channel.unary(self._datasets.CommitRevision, manifest(), self._timeouts.upload))

    async def import_revision(self, dataset: str, uri: str) -> DatasetRevision:
        """Make a revision out of a folder that the server can read, `file://` and an absolute path."""
        request = datasets_pb2.ImportRevisionRequest(dataset=f"datasets/{dataset}", uri=uri)
        return read(DatasetRevision, await self._channel.unary(self._datasets.ImportRevision, request, self._timeouts.upload))

    async def get_revision(self, name: str) -> DatasetRevision:
        """Look at `datasets/D/revisions/R`, or at the newest of `datasets/D`."""
        request = datasets_pb2.GetRevisionRequest(name=name)
        return read(DatasetRevision, await self._channel.unary(self._datasets.GetRevision, request, self._timeouts.call))

    async def list_datasets(self) -> list[Dataset]:
        """Return all datasets by name."""
        call = partial(self._channel.unary, self._datasets.ListDatasets, seconds=self._timeouts.call)
        return [read(Dataset, each) async for page in pages(call, datasets_pb2.ListDatasetsRequest()) for each in page.datasets]

    async def delete_dataset(self, name: str) -> None:
        """Delete `datasets/D` with all its revisions."""
        request = datasets_pb2.DeleteDatasetRequest(name=name)
        await self._channel.unary(self._datasets.DeleteDataset, request, self._timeouts.call)

    async def list_recipes(self) -> list[Recipe]:
        """Return the recipes that come with the trainer, by name and without their texts."""
        call = partial(self._channel.unary, self._recipes.ListRecipes, seconds=self._timeouts.call)
        return [read(Recipe, each) async for page in pages(call, recipes_pb2.ListRecipesRequest()) for each in page.recipes]

    async def get_recipe(self, name: str) -> Recipe:
        """Look at `recipes/R`."""
        request = recipes_pb2.GetRecipeRequest(name=name)
        return read(Recipe, await self._channel.unary(self._recipes.GetRecipe, request, self._timeouts.call))

    async def inspect_revision(self, name: str) -> RevisionFindings:
        """Say what the manifest of `datasets/D/revisions/R`, or of the newest of `datasets/D`, shows."""
        request = datasets_pb2.InspectRevisionRequest(name=name)
        return read(RevisionFindings, await self._channel.unary(self._datasets.InspectRevision, request, self._timeouts.call))

    async def create_job(self, spec: TrainSpec | ImportSpec | CheckSpec | EnsembleSpec | ProfileSpec, request_id: str | None = None) -> Job:
        """Queue a job. With a `request_id` of your own the call may be repeated: it answers the job that is there."""
        job = jobs_pb2.Job()
        match spec:
            case TrainSpec():
                job.train.CopyFrom(write(spec, jobs_pb2.TrainSpec))
            case ImportSpec():
                getattr(job, "import").CopyFrom(write(spec, jobs_pb2.ImportSpec))
            case CheckSpec():
                job.check.CopyFrom(write(spec, jobs_pb2.CheckSpec))
            case EnsembleSpec():
                job.ensemble.CopyFrom(write(spec, jobs_pb2.EnsembleSpec))
            case ProfileSpec():
                job.profile.CopyFrom(write(spec, jobs_pb2.ProfileSpec))
        request = jobs_pb2.CreateJobRequest(job=job, request_id=request_id or str(uuid.uuid4()))
        return read(Job, await self._channel.unary(self._jobs.CreateJob, request, self._timeouts.call))

    async def get_job(self, name: str) -> Job:
        """Look at `jobs/J`."""
        return read(Job, await self._channel.unary(self._jobs.GetJob, jobs_pb2.GetJobRequest(name=name), self._timeouts.call))

    async def list_jobs(self) -> list[Job]:
        """Return all jobs, newest first."""
        call = partial(self._channel.unary, self._jobs.ListJobs, seconds=self._timeouts.call)
        return [read(Job, each) async for page in pages(call, jobs_pb2.ListJobsRequest()) for each in page.jobs]

    async def cancel_job(self, name: str) -> Job:
        """Ask `jobs/J` to end; it is CANCELLED once its process has gone."""
        return read(Job, await self._channel.unary(self._jobs.CancelJob, jobs_pb2.CancelJobRequest(name=name), self._timeouts.call))

    def watch_job(self, name: str, after_sequence: int = 0) -> AsyncIterator[Event]:
        """Yield the events of `jobs/J` after a number, then each new one, to the last."""
        request = jobs_pb2.WatchJobRequest(name=name, after_sequence=after_sequence)
        return watch(self._channel, self._jobs.WatchJob, request, self._timeouts.silence)

    async def wait_for_job(self, name: str, on_event: Callable[[Event], None] | None = None) -> Job:
        """Return the job `name` once it has succeeded; raises WorkFailed if it ends otherwise."""
        async for event in self.watch_job(name):
            if on_event:
                on_event(event)
        job = await self.get_job(name)
        if job.state is not State.SUCCEEDED:
            why = job.error.message if job.error else f"it is {job.state.lower()}"
            reason = job.error.reason if job.error else job.state
            what = "was not finished" if job.check else "made no model"
            raise WorkFailed(f"{name} {what}: {why}", reason=reason, metadata={"name": name})
        return job

    async def download_job_file(self, name: str, file: str, folder: Path) -> Path:
        """Fetch a file that `jobs/J` left, such as `report.html`, into a folder."""
        request = jobs_pb2.DownloadJobFileRequest(name=name, file=file)
        chunks = self._channel.stream(self._jobs.DownloadJobFile, request, lambda: self._timeouts.silence)
        return (await receive_files(chunks, folder))[0]

    async def list_models(self) -> list[Model]:
        """Return all models by name."""
        call = partial(self._channel.unary, self._models.ListModels, seconds=self._timeouts.call)
        return [read(Model, each) async for page in pages(call, models_pb2.ListModelsRequest()) for each in page.models]

    async def get_model_version(self, name: str) -> ModelVersion:
        """Look at `models/M/versions/V`, at what the alias `models/M@A` names, or at the newest of `models/M`."""
        request = models_pb2.GetModelVersionRequest(name=name)
        return read(ModelVersion, await self._channel.unary(self._models.GetModelVersion, request, self._timeouts.call))

    async def list_model_versions(self, model: str) -> list[ModelVersion]:
        """Return the versions of `models/M`, newest first."""
        call = partial(self._channel.unary, self._models.ListModelVersions, seconds=self._timeouts.call)
        request = models_pb2.ListModelVersionsRequest(parent=model)
        return [read(ModelVersion, each) async for page in pages(call, request) for each in page.versions]

    async def delete_model(self, name: str, *, force: bool = False) -> None:
        """Delete `models/M/versions/V`, or `models/M` with all its versions; `force`: aliases that name it too."""
        request = models_pb2.DeleteModelRequest(name=name, force=force)
        await self._channel.unary(self._models.DeleteModel, request, self._timeouts.call)

    async def download_model_version(self, name: str, folder: Path) -> tuple[Path, ...]:
        """Fetch the bundle of a version, named as `get_model_version` takes it, into a folder; its `manifest.json` comes last."""
        request = models_pb2.DownloadModelVersionRequest(name=name)
        chunks = self._channel.stream(self._models.DownloadModelVersion, request, lambda: self._timeouts.silence)
        return await receive_files(chunks, folder)

    async def set_model_alias(self, alias: ModelAlias) -> ModelAlias:
        """Make `models/M/aliases/A` name a version of its model; an `etag` must be the alias' present one."""
        request = models_pb2.SetModelAliasRequest(alias=write(alias, models_pb2.ModelAlias))
        return read(ModelAlias, await self._channel.unary(self._models.SetModelAlias, request, self._timeouts.call))

    async def list_model_aliases(self, model: str) -> list[ModelAlias]:
        """Return the aliases of `models/M` by name."""
        request = models_pb2.ListModelAliasesRequest(parent=model)
        answer = await self._channel.unary(self._models.ListModelAliases, request, self._timeouts.call)
        return [read(ModelAlias, each) for each in answer.aliases]

    async def delete_model_alias(self, name: str, etag: str = "") -> None:
        """Delete `models/M/aliases/A`; the version stays. An `etag` must be the alias' present one."""
        request = models_pb2.DeleteModelAliasRequest(name=name, etag=etag)
        await self._channel.unary(self._models.DeleteModelAlias, request, self._timeouts.call)


def _ignore(_: int) -> None:
    pass


def _batches_of_bytes(files: Sequence[tuple[Path, str, int]]) -> Iterable[list[tuple[Path, str, int]]]:
    batch: list[tuple[Path, str, int]] = []
    size = 0
    for file in files:
        if batch and size + file[2] > _UPLOAD_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file[2]
    if batch:
        yield batch


async def _chunks(files: Iterable[tuple[Path, str, int]], sent: Callable[[int], None]) -> AsyncIterator[datasets_pb2.UploadBlobsRequest]:
    for path, sha256, size in files:
        with path.open("rb") as file:
            first = True
            while (data := await asyncio.to_thread(file.read, _CHUNK_BYTES)) or first:
                yield datasets_pb2.UploadBlobsRequest(sha256=sha256 if first else "", size_bytes=size if first else 0, data=data)
                sent(len(data))
                first = False
