"""An ensemble: versions that are there become one model, without training."""

from pathlib import Path

from lookalike_model.bundle import BundleError
from lookalike_model.ensemble_writer import EnsembleContent, MemberSource, write_ensemble
from lookalike_trainer.training.errors import JobError, Reason
from lookalike_trainer.training.events import EventLog
from lookalike_trainer.training.job import EnsembleJob
from lookalike_trainer.training.result import BUNDLE, Result


def run_ensemble(job: EnsembleJob, folder: Path, log: EventLog) -> Result:
    """Write the bundle of the members' bundles.

    Raises:
        JobError: INVALID_BUNDLE, if a member is an ensemble itself, lacks the profile, or was made with another decoder than the rest.
    """
    log.report("bundle", 0, 1, "bundles")
    members = [MemberSource(Path(member.path), member.label, member.profile, member.weight) for member in job.members]
    notes = ("An ensemble: nothing was measured on it. Its cosines are the weighted means of its members'.",)
    recipe = {"ensemble": [member.model_dump(mode="json", exclude={"path"}) for member in job.members]}
    try:
        ensemble = write_ensemble(folder / BUNDLE, EnsembleContent(job.model, members, recipe, notes))
    except BundleError as error:
        raise JobError(Reason.INVALID_BUNDLE, f"the ensemble cannot be made: {error}") from error
    log.report("bundle", 1, 1, "bundles")
    return Result.of(ensemble, {}, notes)
