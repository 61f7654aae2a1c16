"""What can be said of a job at once is said when it is created, not when its turn comes."""

from lookalike_model.builtin import BuiltinError, builtin_weights
from lookalike_runtime.errors import FailedPrecondition, InvalidArgument, invalid_field
from lookalike_trainer.blobs import BlobStore
from lookalike_trainer.database import Database
from lookalike_trainer.datasets import Datasets
from lookalike_trainer.job_folders import DEFAULT_START
from lookalike_trainer.job_records import Job
from lookalike_trainer.job_spec import JobSpec, Start, TrainSpec
from lookalike_trainer.jobs import Jobs
from lookalike_trainer.models import Models
from lookalike_trainer.training.errors import JobError
from lookalike_trainer.training.recipe import Recipe
from lookalike_trainer.training.recipe_files import DEFAULT_RECIPE, load_recipe


class Admission:
    """Checks jobs and queues them."""

    def __init__(self, database: Database, jobs: Jobs, datasets: Datasets, models: Models, blobs: BlobStore) -> None:
        self._database = database
        self._jobs = jobs
        self._datasets = datasets
        self._models = models
        self._blobs = blobs

    def create(self, request_id: str, requested: JobSpec) -> Job:
        """Queue a job, or return the one that came under this id with the same spec.

        Raises:
            AlreadyExists, NotFound, InvalidArgument, FailedPrecondition, ResourceExhausted: as the table of `CreateJob` says.
        """
        # One transaction: what it starts from cannot be deleted between the check and the job.
        with self._database.transaction():
            if found := self._jobs.requested(request_id, requested):
                return found
            spec = self._resolved(requested) if isinstance(requested, TrainSpec) else requested
            self._check_start(spec.start or DEFAULT_START)
            return self._jobs.create(request_id, requested, spec)

    def _resolved(self, spec: TrainSpec) -> TrainSpec:
        revision = self._datasets.get(spec.dataset, spec.revision)
        if revision.classes < 2:
            message = f"{revision.name} has {revision.classes} class: at least two are needed, else there is nothing to tell apart"
            raise InvalidArgument("TOO_FEW_CLASSES", message)
        try:
            recipe = load_recipe(spec.recipe, spec.overrides, spec.recipe_toml)
        except JobError as error:
            raise InvalidArgument(error.reason, str(error)) from None
        name = spec.recipe if spec.recipe_toml else spec.recipe or DEFAULT_RECIPE
        start = spec.start or _start_of(recipe)
        return spec.model_copy(update={"revision": revision.number, "recipe": name, "start": start})

    def _check_start(self, start: Start) -> None:
        match start.kind:
            case "builtin":
                _check_builtin(start.name)
            case "weights" if self._blobs.size(start.sha256) is None:
                message = f"the weights file {start.sha256} is not on the server: upload it with UploadBlobs, then create the job again"
                raise FailedPrecondition("BLOBS_MISSING", message, metadata={"sha256": start.sha256})
            case "bundle":
                self._models.get(start.model, start.version)


def _start_of(recipe: Recipe) -> Start | None:
    """What a recipe says to start from, if it does."""
    kind, colon, name = recipe.network.start.partition(":")
    return Start.model_validate({"kind": kind, "name": name}) if colon else None


def _check_builtin(name: str) -> None:
    try:
        weights = builtin_weights(name)
    except BuiltinError as error:
        raise invalid_field("init.builtin", str(error)) from None
    try:
        weights.path()
    except BuiltinError as error:
        raise FailedPrecondition("WEIGHTS_MISSING", str(error)) from None
