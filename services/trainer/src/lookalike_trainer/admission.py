"""What can be said of a job at once is said when it is created, not when its turn comes."""

from collections.abc import Sequence

from lookalike_model.builtin import BuiltinError, builtin_weights
from lookalike_runtime.errors import AlreadyExists, FailedPrecondition, InvalidArgument, invalid_field
from lookalike_trainer.blobs import BlobStore
from lookalike_trainer.database import Database
from lookalike_trainer.datasets import Datasets, Revision
from lookalike_trainer.exclusion import list_bytes
from lookalike_trainer.job_folders import DEFAULT_START
from lookalike_trainer.job_records import Job
from lookalike_trainer.job_spec import CheckSpec, EnsembleSpec, ImportSpec, JobSpec, ProfileSpec, Start, TrainSpec, contents_of
from lookalike_trainer.jobs import Jobs
from lookalike_trainer.manifest import read_entries
from lookalike_trainer.models import Models, Origin
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

    def create(self, request_id: str, requested: JobSpec, excluded: Sequence[str] = ()) -> Job:
        """Queue a job, or return the one that came under this id with the same spec.

        Args:
            excluded: the paths that `requested.excluded` stands for.

        Raises:
            AlreadyExists, NotFound, InvalidArgument, FailedPrecondition, ResourceExhausted: as the table of `CreateJob` says.
        """
        # One transaction: what it starts from cannot be deleted between the check and the job.
        with self._database.transaction():
            if found := self._jobs.requested(request_id, requested):
                return found
            spec = self._resolved(requested)
            self._check_contents(spec, excluded)
            if isinstance(spec, EnsembleSpec):
                self._check_members(spec)
            elif isinstance(spec, ProfileSpec):
                self._check_profile(spec)
            elif not (isinstance(spec, ImportSpec) and spec.folder):
                self._check_start(spec.start or DEFAULT_START)
            return self._jobs.create(request_id, requested, spec)

    def _resolved(self, spec: JobSpec) -> JobSpec:
        if isinstance(spec, ImportSpec | EnsembleSpec) or spec.dataset is None:
            return spec
        revision = self._datasets.get(spec.dataset, spec.revision)
        if isinstance(spec, CheckSpec | ProfileSpec):
            return spec.model_copy(update={"revision": revision.number})
        return self._resolved_training(spec, revision)

    def _resolved_training(self, spec: TrainSpec, revision: Revision) -> TrainSpec:
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

    def _check_contents(self, spec: JobSpec, excluded: Sequence[str]) -> None:
        """What was uploaded for the job must be here; the list of what is left out comes with it, and names pictures that there are."""
        if isinstance(spec, TrainSpec) and spec.excluded:
            there = {entry.path for entry in read_entries(self._datasets.manifest_path(self._datasets.get(spec.dataset, spec.revision)))}
            if unknown := [path for path in excluded if path not in there]:
                message = f"{unknown[0]!r} is no picture of datasets/{spec.dataset}/revisions/{spec.revision} ({len(unknown)} such paths)"
                raise invalid_field("job.train.excluded_paths", message)
            with self._blobs.receive() as receiver:
                receiver.add(list_bytes(excluded))
        if missing := [sha256 for sha256 in sorted(contents_of(spec)) if self._blobs.size(sha256) is None]:
            message = f"the content {missing[0]} is not on the server: upload it with UploadBlobs, then create the job again"
            raise FailedPrecondition("BLOBS_MISSING", message, metadata={"sha256": missing[0]})

    def _check_members(self, spec: EnsembleSpec) -> None:
        for index, member in enumerate(spec.members):
            version = self._models.get(member.model, member.version)
            if version.origin is Origin.ENSEMBLE:
                raise invalid_field(
                    f"job.ensemble.members[{index}].model_version", f"{version.name} is an ensemble itself: name its members"
                )
            if member.profile not in (None, *version.result.profiles):
                known = ", ".join(sorted(version.result.profiles))
                raise invalid_field(
                    f"job.ensemble.members[{index}].profile", f"{version.name} has no profile {member.profile!r}; it has: {known}"
                )

    def _check_profile(self, spec: ProfileSpec) -> None:
        version = self._models.get(spec.start.model, spec.start.version)
        if version.origin is Origin.ENSEMBLE:
            message = (
                f"{version.name} is an ensemble, whose vectors are made of its members': add the profile to a member, then make "
                "the ensemble anew with that"
            )
            raise invalid_field("job.profile.model_version", message)
        if spec.profile in version.result.profiles:
            known = ", ".join(sorted(version.result.profiles))
            message = f"{version.name} has a profile {spec.profile!r} already (it has: {known}): choose another name"
            raise AlreadyExists("PROFILE_EXISTS", message, metadata={"name": version.name, "profile": spec.profile})

    def _check_start(self, start: Start) -> None:
        match start.kind:
            case "builtin":
                _check_builtin(start.name)
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
