"""What the service can tell of a revision's data: its manifest, and the newest job that has looked at its pictures."""

from lookalike_trainer.datasets import Datasets, Revision
from lookalike_trainer.job_folders import JobFolders
from lookalike_trainer.jobs import Jobs
from lookalike_trainer.manifest import read_entries
from lookalike_trainer.manifest_findings import ManifestFindings, inspect_manifest

CHECKS = "checks.json"


class Inspection:
    """Looks at revisions."""

    def __init__(self, datasets: Datasets, jobs: Jobs, folders: JobFolders) -> None:
        self._datasets = datasets
        self._jobs = jobs
        self._folders = folders

    def inspect(self, dataset: str, number: int | None) -> tuple[Revision, ManifestFindings, str | None]:
        """A revision, what its manifest shows, and the job that knows more; raises NotFound (DATASET_NOT_FOUND)."""
        revision = self._datasets.get(dataset, number)
        findings = inspect_manifest(read_entries(self._datasets.manifest_path(revision)))
        jobs = self._jobs.of_revision(dataset, revision.number)
        return revision, findings, next((uid for uid in jobs if CHECKS in self._folders.left(uid)), None)
