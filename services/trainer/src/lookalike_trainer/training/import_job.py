"""An import: an existing network becomes a model, without training."""

from pathlib import Path

from lookalike_images import Preprocessing
from lookalike_model.bundle_writer import BundleContent, write_bundle
from lookalike_model.network import default_pool
from lookalike_model.spec import NetworkSpec
from lookalike_model.timm_config import built_for_one_size, preprocessing_of
from lookalike_trainer.training.errors import JobError, Reason
from lookalike_trainer.training.events import EventLog
from lookalike_trainer.training.import_folder import run_folder_import
from lookalike_trainer.training.job import ImportJob, Start
from lookalike_trainer.training.result import BUNDLE, Result
from lookalike_trainer.training.start import StartingPoint, build_network, open_start

_OVERRIDES = ("size", "resize", "filter", "crop_pct")


def run_import(job: ImportJob, folder: Path, log: EventLog) -> Result:
    """Write the bundle of a timm network with weights of a file, of a package, or timm's own, or of a folder.

    Raises:
        JobError: the weights are not there or do not fit, or a value is out of range.
    """
    if job.folder:
        return run_folder_import(job, folder, log)
    log.report("prepare", 0, 1, "networks")
    start = _start(job)
    point = open_start(start, None)
    preprocessing = _preprocessing(job, job.network or point.architecture)
    spec = _spec(point, preprocessing)
    network, loaded = build_network(spec, point, seed=0)
    notes = (f"Imported: {loaded}.", "Not trained on any pictures of yours: unproven on them.")
    log.report("bundle", 0, 1, "bundles")
    recipe = {"import": start.model_copy(update={"path": start.path and Path(start.path).name}).model_dump(mode="json")}
    content = BundleContent(job.model, network, preprocessing, recipe=recipe, notes=notes)
    bundle = write_bundle(folder / BUNDLE, content)
    log.report("bundle", 1, 1, "bundles")
    return Result.of(bundle, {}, notes)


def _start(job: ImportJob) -> Start:
    if job.builtin:
        return Start(kind="builtin", name=job.builtin)
    if not job.network:
        raise JobError(Reason.INVALID_JOB, "name a timm network, or built-in weights")
    if job.weights:
        return Start(kind="weights", name=job.network, path=job.weights)
    return Start(kind="timm", name=job.network)


def _preprocessing(job: ImportJob, name: str) -> Preprocessing:
    if unknown := sorted(job.overrides.keys() - set(_OVERRIDES)):
        raise JobError(Reason.INVALID_RECIPE, f"`{unknown[0]}` cannot be set for an import; there are: {', '.join(_OVERRIDES)}")
    document = preprocessing_of(name).to_json()
    for key, value in job.overrides.items():
        document[key] = _number(value) if key in ("size", "crop_pct") else value
    try:
        return Preprocessing.from_json(document)
    except ValueError as error:
        raise JobError(Reason.INVALID_RECIPE, str(error)) from error


def _number(value: str | int) -> object:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def _spec(point: StartingPoint, preprocessing: Preprocessing) -> NetworkSpec:
    return NetworkSpec(
        architecture=point.architecture,
        pool=default_pool(point.architecture),
        image_size=preprocessing.size if built_for_one_size(point.architecture) else None,
    )
