"""The trainer's parts over one folder, put together as `service` does it, with a fake worker."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from lookalike_trainer.admission import Admission
from lookalike_trainer.blobs import BlobStore
from lookalike_trainer.database import Database
from lookalike_trainer.datasets import Datasets, Revision
from lookalike_trainer.job_folders import JobFolders
from lookalike_trainer.job_spec import ImportSpec, Start, TrainSpec
from lookalike_trainer.jobs import Jobs
from lookalike_trainer.manifest import Entry, ManifestDraft
from lookalike_trainer.models import Models
from lookalike_trainer.runner import Runner

FAKE_WORKER = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))


@dataclass
class Parts:
    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.url = str(self.folder / "registry")
        self.database = Database(self.folder / "jobs.db")
        self.jobs = Jobs(self.database)
        self.blobs = BlobStore(self.folder / "blobs")
        self.datasets = Datasets(self.database, self.jobs, self.blobs, self.folder / "datasets")
        self.models = Models(self.database, self.jobs, self.url, self.folder / "cache")
        self.folders = JobFolders(self.folder / "jobs", self.datasets, self.blobs, self.models)
        self.admission = Admission(self.database, self.jobs, self.datasets, self.models, self.blobs)

    def runner(self, slots: int = 1) -> Runner:
        return Runner(self.jobs, self.datasets, self.models, self.folders, slots, FAKE_WORKER)

    def commit(self, name: str, pictures: dict[str, bytes]) -> Revision:
        """Keep the pictures by their paths, labelled by the first part of each, and commit them."""
        draft = ManifestDraft()
        with self.blobs.receive() as receiver:
            for path, content in pictures.items():
                draft.add(path, Entry(path, path.split("/")[0], receiver.add(content), len(content)))
        return self.datasets.commit(name, draft.finish())

    def queue(self, model: str = "quick", start: Start | None = None) -> str:
        """Queue an import; the fake worker behaves as the model's name says."""
        spec = ImportSpec(model=model, start=start or Start(kind="timm", name="resnet10t"), size=0)
        return self.admission.create(f"request-{self.database.next_number('test', '')}", spec).uid

    def train_spec(self, **changes: object) -> TrainSpec:
        start = Start(kind="random", name="test_vit")
        base = TrainSpec(model="quick", dataset="shoes", revision=None, recipe="", overrides={}, start=start, seed=0)
        return base.model_copy(update=changes)
