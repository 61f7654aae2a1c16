"""What the service asks for, in `job.json`. Needs no torch."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from lookalike_model.profile import Tap
from lookalike_model.records import Record, first_problems
from lookalike_trainer.training.errors import JobError, Reason

CHECKPOINTS = "checkpoints"
"""Folder in a job's folder; where there is something in it, a worker goes on from there."""

RUNS = "runs"
"""Folder in a job's folder with one for each run beside that which becomes the model; see `runs`."""


class DatasetReference(Record):
    """A revision of a dataset, and where its pictures lie.

    Attributes:
        excluded: a file that lists paths of pictures that are left out, a JSON array.
    """

    name: str
    revision: int
    fingerprint: str
    manifest: str
    blobs: str
    excluded: str | None = None

    @property
    def resource_name(self) -> str:
        """`datasets/D/revisions/R`."""
        return f"datasets/{self.name}/revisions/{self.revision}"


class Start(Record):
    """What training starts from.

    Attributes:
        name: of built-in weights, or timm's of a network.
        path: a weights file, or a bundle's folder.
        label: what to call it where people read.
    """

    kind: Literal["builtin", "random", "timm", "weights", "bundle"]
    name: str | None = None
    path: str | None = None
    label: str | None = None


class TrainJob(Record):
    """Train a model.

    Attributes:
        recipe: name of a shipped one; None for the default, or where `recipe_toml` takes its place.
        recipe_toml: the text of one's own.
        events_kept: number of the last event that the service has.
    """

    kind: Literal["train"]
    uid: str
    model: str
    dataset: DatasetReference
    recipe: str | None = None
    recipe_toml: str | None = None
    overrides: dict[str, str] = Field(default_factory=dict)
    init: Start = Start(kind="builtin")
    seed: int = Field(default=0, ge=0, lt=2**64)
    events_kept: int = Field(default=0, ge=0)


class ImportJob(Record):
    """Make a model of an existing network.

    Attributes:
        folder: a file's place by its path inside a folder that is imported whole.
        events_kept: number of the last event that the service has.
    """

    kind: Literal["import"]
    uid: str
    model: str
    network: str | None = None
    weights: str | None = None
    builtin: str | None = None
    overrides: dict[str, str | int] = Field(default_factory=dict)
    events_kept: int = Field(default=0, ge=0)
    folder: dict[str, str] = Field(default_factory=dict)


class CheckJob(Record):
    """Look for what is wrong with a dataset.

    Attributes:
        init: what tells which pictures look alike.
        events_kept: number of the last event that the service has.
    """

    kind: Literal["check"]
    uid: str
    dataset: DatasetReference
    init: Start
    events_kept: int = Field(default=0, ge=0)


class EnsembleMember(Record):
    """A bundle that becomes a member; `profile` is None for its default, `label` what to call it where people read."""

    path: str
    label: str
    profile: str | None
    weight: float


class EnsembleJob(Record):
    """Make one model of several.

    Attributes:
        events_kept: number of the last event that the service has.
    """

    kind: Literal["ensemble"]
    uid: str
    model: str
    members: tuple[EnsembleMember, ...]
    events_kept: int = Field(default=0, ge=0)


class ProfileJob(Record):
    """Make a version of a bundle with one more profile.

    Attributes:
        path: of the bundle; `label` is what to call it where people read.
        metrics, notes: of the version that the bundle is.
        name: of the new profile.
        project_dim: of a PCA fitted on `dataset`; 0 for none.
        default: whether it becomes the default profile.
        events_kept: number of the last event that the service has.
    """

    kind: Literal["profile"]
    uid: str
    model: str
    path: str
    label: str
    metrics: dict[str, float]
    notes: tuple[str, ...]
    name: str
    tap: Tap
    views: tuple[str, ...]
    project_dim: int
    dataset: DatasetReference | None
    default: bool
    events_kept: int = Field(default=0, ge=0)


Job = TrainJob | ImportJob | CheckJob | EnsembleJob | ProfileJob
_JOB: TypeAdapter[Job] = TypeAdapter(Annotated[Job, Field(discriminator="kind")])


def read_job(path: Path) -> Job:
    """The job that a worker was given.

    Raises:
        JobError: INVALID_JOB.
    """
    try:
        return _JOB.validate_json(path.read_bytes())
    except ValidationError as error:
        raise JobError(Reason.INVALID_JOB, f"{path.name}: {first_problems(error)}") from error
