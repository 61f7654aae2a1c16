"""The trainer as a service: its parts put together."""

from collections.abc import Sequence

import grpc

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
from lookalike_runtime.data_folder import DataFolder
from lookalike_runtime.server import Health
from lookalike_trainer.admission import Admission
from lookalike_trainer.blobs import BlobStore
from lookalike_trainer.database import Database
from lookalike_trainer.datasets import Datasets
from lookalike_trainer.inspection import Inspection
from lookalike_trainer.job_folders import JobFolders
from lookalike_trainer.jobs import Jobs
from lookalike_trainer.models import Models
from lookalike_trainer.runner import Runner
from lookalike_trainer.servicers.datasets import DatasetServicer
from lookalike_trainer.servicers.jobs import JobServicer
from lookalike_trainer.servicers.models import ModelServicer
from lookalike_trainer.servicers.recipes import RecipeServicer
from lookalike_trainer.settings import TrainerSettings
from lookalike_trainer.worker_process import WORKER_COMMAND

FORMAT = 1


class TrainerService:
    """One trainer: the only process that writes its data folder and its registry."""

    def __init__(self, settings: TrainerSettings, worker_command: Sequence[str] = WORKER_COMMAND) -> None:
        """Open the data folder; raises FailedPrecondition if another process holds it or its format is another."""
        data = settings.data.absolute()
        self._folder = DataFolder(data / "trainer", FORMAT)
        self._database = Database(self._folder.path / "jobs.db")
        self._jobs = Jobs(self._database)
        blobs = BlobStore(data / "blobs")
        datasets = Datasets(self._database, self._jobs, blobs, self._folder.path / "datasets")
        self._models = Models(self._database, self._jobs, settings.registry_url, self._folder.path / "cache")
        folders = JobFolders(self._folder.path / "jobs", datasets, blobs, self._models)
        self._runner = Runner(self._jobs, datasets, self._models, folders, settings.slots, worker_command)
        admission = Admission(self._database, self._jobs, datasets, self._models, blobs)
        self._dataset_servicer = DatasetServicer(datasets, blobs, settings.import_roots, Inspection(datasets, self._jobs, folders))
        self._job_servicer = JobServicer(self._jobs, admission, folders)
        self._model_servicer = ModelServicer(self._models)

    def add_to(self, server: grpc.aio.Server) -> list[str]:
        """Add the servicers to `server`; return the full names of their services."""
        datasets_pb2_grpc.add_DatasetServiceServicer_to_server(self._dataset_servicer, server)
        jobs_pb2_grpc.add_JobServiceServicer_to_server(self._job_servicer, server)
        models_pb2_grpc.add_ModelServiceServicer_to_server(self._model_servicer, server)
        recipes_pb2_grpc.add_RecipeServiceServicer_to_server(RecipeServicer(), server)
        files = (datasets_pb2, jobs_pb2, models_pb2, recipes_pb2)
        return [service.full_name for file in files for service in file.DESCRIPTOR.services_by_name.values()]

    async def start(self, health: Health) -> None:  # noqa: ARG002, there is no health but the server's own
        """Bring the registry up to date, then run jobs."""
        self._models.publish_index()
        await self._runner.start()

    async def stop(self) -> None:
        """End the workers and close the files."""
        await self._runner.stop()
        self._database.close()
        self._folder.close()
