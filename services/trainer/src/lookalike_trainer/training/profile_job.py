"""A profile: a version of a model with one more way to make vectors of its network's outputs, without training."""

from pathlib import Path
from typing import Any

from lookalike_images import DECODER_REVISION
from lookalike_model.bundle import Bundle, BundleError, read_bundle
from lookalike_model.bundle_writer import BundleContent, write_bundle
from lookalike_model.embedding_model import ModelLoadError, check_decoder, vector_dim
from lookalike_model.fingerprint import space_fingerprint
from lookalike_model.profile import Profile, ProjectionSpec
from lookalike_trainer.training.errors import JobError, Reason
from lookalike_trainer.training.events import EventLog
from lookalike_trainer.training.interruption import Interruption
from lookalike_trainer.training.job import ProfileJob
from lookalike_trainer.training.projection_fit import Fitted, Fitting, fit_projection
from lookalike_trainer.training.result import BUNDLE, SCRATCH, Result


def run_profile(job: ProfileJob, folder: Path, log: EventLog, stop: Interruption) -> Result:
    """Write the bundle with the profiles it has and one more; all else stays as it is.

    Raises:
        JobError: the network cannot do what the profile says, or the pictures cannot be projected so.
        Cancelled: the job was told to stop.
    """
    bundle = _read(job)
    profile = Profile(tap=job.tap, views=job.views)
    _check(job, bundle, profile)
    fitted = None
    if job.dataset is not None:
        what = Fitting(bundle, profile, job.project_dim, job.dataset, job.name)
        fitted = fit_projection(what, folder / SCRATCH, log, stop)
    log.report("bundle", 0, 1, "bundles")
    made = write_bundle(folder / BUNDLE, _content(job, bundle, profile, fitted))
    log.report("bundle", 1, 1, "bundles")
    return Result.of(made, job.metrics, _notes(job, fitted))


def _read(job: ProfileJob) -> Bundle:
    try:
        bundle = read_bundle(Path(job.path))
        check_decoder(bundle.decoder_revision)
    except (BundleError, ModelLoadError) as error:
        raise JobError(Reason.INVALID_BUNDLE, f"{job.label} can have no other profile: {error}") from error
    return bundle


def _check(job: ProfileJob, bundle: Bundle, profile: Profile) -> None:
    """What the network cannot do is told before pictures are decoded."""
    try:
        width = vector_dim(bundle.network, bundle.preprocessing, profile, None)
    except ValueError as error:  # a NetworkError too
        raise JobError(Reason.INVALID_PROFILE, f"{job.label} cannot have the profile `{job.name}`: {error}") from error
    if job.project_dim > width:
        message = (
            f"the tap `{job.tap}` of {job.label} has {width} values, which cannot be projected to {job.project_dim}: "
            f"project to at most {width}, or leave the projection out"
        )
        raise JobError(Reason.TOO_MANY_DIMS, message)
    if job.project_dim:
        return
    fingerprint = space_fingerprint(bundle.network, bundle.preprocessing, DECODER_REVISION, profile, None)
    if same := next((name for name, entry in bundle.profiles.items() if entry.fingerprint == fingerprint), None):
        message = f"these are the vectors of the profile `{same}` of {job.label}: use that, or change views, tap or projection"
        raise JobError(Reason.INVALID_PROFILE, message)


def _content(job: ProfileJob, bundle: Bundle, profile: Profile, fitted: Fitted | None) -> BundleContent:
    description = bundle.description
    projections = dict(bundle.projections)
    if fitted is not None:
        # A bundle made elsewhere may call another profile's projection so.
        names = (job.name, *(f"{job.name[:60]}-{number}" for number in range(2, 2 + len(projections))))
        name = next(name for name in names if name not in projections)
        projections[name] = fitted.projection
        profile = profile.model_copy(update={"projection": ProjectionSpec(name=name, dim=job.project_dim)})
    return BundleContent(
        name=job.model,
        network=bundle.network,
        preprocessing=bundle.preprocessing,
        profiles={**{name: entry.profile for name, entry in bundle.profiles.items()}, job.name: profile},
        default_profile=job.name if job.default else bundle.default_profile,
        advice={name: entry.advice for name, entry in bundle.profiles.items()},
        metrics=description.metrics,
        data=description.data,
        recipe={**description.recipe, "profiles": _origins(job, description.recipe, fitted)},
        notes=_notes(job, fitted),
        projections=projections,
    )


def _origins(job: ProfileJob, recipe: dict[str, Any], fitted: Fitted | None) -> dict[str, Any]:
    """Where each profile that was added comes from."""
    earlier = recipe.get("profiles")
    told: dict[str, Any] = {"added_to": job.label}
    if fitted is not None and job.dataset is not None:
        told["fitted_on"] = {
            "dataset": job.dataset.name,
            "revision": job.dataset.revision,
            "fingerprint": job.dataset.fingerprint,
            "pictures": fitted.pictures,
            "classes": fitted.classes,
        }
    return {**(earlier if isinstance(earlier, dict) else {}), job.name: told}


def _notes(job: ProfileJob, fitted: Fitted | None) -> tuple[str, ...]:
    added = f"Profile `{job.name}` was added to {job.label}; nothing was measured with it, so all figures are of earlier profiles."
    return (*job.notes, added, *(fitted.notes if fitted else ()))
