"""The folder of each job: what its worker is told, and where it leaves what it made."""

import os
import shutil
from pathlib import Path

from lookalike_model.builtin import EFFICIENTNET_LITE0
from lookalike_trainer.blobs import BlobStore
from lookalike_trainer.datasets import Datasets
from lookalike_trainer.job_records import Job
from lookalike_trainer.job_spec import CheckSpec, EnsembleSpec, Excluded, ImportSpec, JobSpec, ProfileSpec, Start, TrainSpec
from lookalike_trainer.models import Models
from lookalike_trainer.training import job as told

JOB = "job.json"
FILES = ("report.html", "checks.json", "suspects.csv", "events.jsonl", "worker.log")
DEFAULT_START = Start(kind="builtin", name=EFFICIENTNET_LITE0.name)


class JobFolders:
    """Below `root`, a folder per job by its uid."""

    def __init__(self, root: Path, datasets: Datasets, blobs: BlobStore, models: Models) -> None:
        self._root = root
        self._datasets = datasets
        self._blobs = blobs
        self._models = models

    def path(self, uid: str) -> Path:
        """The folder of one job."""
        return self._root / uid

    def prepare(self, job: Job, events_kept: int) -> Path:
        """Write `job.json` into the folder, in which a worker that was started before may have left something to go on from.

        Args:
            events_kept: number of the last event of the worker's that was kept.

        Raises:
            NotFound: the dataset or the model to start from is gone.
            DataLoss: the bundle to start from was changed (BUNDLE_DAMAGED).
        """
        document = self._told(job.uid, job.spec)
        folder = self.path(job.uid)
        folder.mkdir(parents=True, exist_ok=True)
        told_now = document.model_copy(update={"events_kept": events_kept})
        (folder / JOB).write_text(told_now.model_dump_json(indent=1), encoding="utf-8")
        return folder

    def has_checkpoint(self, uid: str) -> bool:
        """Whether a worker would go on from a checkpoint, and not from the beginning."""
        own = f"{told.CHECKPOINTS}/[0-9]*"
        return any(any(self.path(uid).glob(pattern)) for pattern in (own, f"{told.RUNS}/*/{own}", f"{told.RUNS}/*/*.json"))

    def tidy(self, uid: str) -> None:
        """Remove folders, such as the bundle, which is in the registry or of no use; files, which a person may want to read, stay."""
        for path in self.path(uid).glob("*/"):
            shutil.rmtree(path, ignore_errors=True)

    def left(self, uid: str) -> list[str]:
        """Those of `FILES` that a job has left."""
        return [name for name in FILES if (self.path(uid) / name).is_file()]

    def _told(self, uid: str, spec: JobSpec) -> told.Job:
        match spec:
            case ImportSpec():
                return self._import(uid, spec)
            case CheckSpec():
                return told.CheckJob(kind="check", uid=uid, dataset=self._dataset(spec), init=self._init(spec.start or DEFAULT_START))
            case EnsembleSpec():
                return self._ensemble(uid, spec)
            case ProfileSpec():
                return self._profile(uid, spec)
            case TrainSpec():
                return self._train(uid, spec)

    def _dataset(self, spec: TrainSpec | CheckSpec) -> told.DatasetReference:
        return self._revision(spec.dataset, spec.revision, spec.excluded if isinstance(spec, TrainSpec) else None)

    def _revision(self, dataset: str, number: int | None, excluded: Excluded | None = None) -> told.DatasetReference:
        revision = self._datasets.get(dataset, number)
        return told.DatasetReference(
            name=revision.dataset,
            revision=revision.number,
            fingerprint=revision.fingerprint,
            manifest=os.fspath(self._datasets.manifest_path(revision)),
            blobs=os.fspath(self._blobs.root),
            excluded=os.fspath(self._blobs.path(excluded.sha256)) if excluded else None,
        )

    def _train(self, uid: str, spec: TrainSpec) -> told.TrainJob:
        return told.TrainJob(
            kind="train",
            uid=uid,
            model=spec.model,
            dataset=self._dataset(spec),
            recipe=spec.recipe or None,
            recipe_toml=spec.recipe_toml or None,
            overrides=spec.overrides,
            init=self._init(spec.start or DEFAULT_START),
            seed=spec.seed,
        )

    def _import(self, uid: str, spec: ImportSpec) -> told.ImportJob:
        start = spec.start
        if start is None:
            files = {file.path: os.fspath(self._blobs.path(file.sha256)) for file in spec.folder}
            return told.ImportJob(kind="import", uid=uid, model=spec.model, folder=files)
        return told.ImportJob(
            kind="import",
            uid=uid,
            model=spec.model,
            network=None if start.kind == "builtin" else start.name,
            weights=os.fspath(self._blobs.path(start.sha256)) if start.kind == "weights" else None,
            builtin=start.name if start.kind == "builtin" else None,
            overrides={"size": spec.size} if spec.size else {},
        )

    def _ensemble(self, uid: str, spec: EnsembleSpec) -> told.EnsembleJob:
        members = tuple(
            told.EnsembleMember(
                path=os.fspath(self._models.bundle(member.model, member.version)),
                label=f"models/{member.model}/versions/{member.version}",
                profile=member.profile,
                weight=member.weight,
            )
            for member in spec.members
        )
        return told.EnsembleJob(kind="ensemble", uid=uid, model=spec.model, members=members)

    def _profile(self, uid: str, spec: ProfileSpec) -> told.ProfileJob:
        version = self._models.get(spec.start.model, spec.start.version)
        return told.ProfileJob(
            kind="profile",
            uid=uid,
            model=spec.model,
            path=os.fspath(self._models.bundle(version.model, version.number)),
            label=version.name,
            metrics=version.result.metrics,
            notes=version.result.notes,
            name=spec.profile,
            tap=spec.tap,
            views=spec.views,
            project_dim=spec.project_dim,
            dataset=self._revision(spec.dataset, spec.revision) if spec.dataset else None,
            default=spec.default_profile,
        )

    def _init(self, start: Start) -> told.Start:
        match start.kind:
            case "bundle":
                label = f"models/{start.model}/versions/{start.version}"
                return told.Start(kind="bundle", path=os.fspath(self._models.bundle(start.model, start.version)), label=label)
            case "weights":
                return told.Start(kind="weights", name=start.name, path=os.fspath(self._blobs.path(start.sha256)))
            case _:
                return told.Start(kind=start.kind, name=start.name)
