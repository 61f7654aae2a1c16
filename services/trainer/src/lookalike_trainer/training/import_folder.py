"""A folder becomes a model: a bundle as it is, or what timm and model hubs write."""

import shutil
from pathlib import Path

from lookalike_model.bundle import CONFIG, MODEL, RETRIEVAL, Bundle, BundleError, read_json
from lookalike_model.bundle_writer import BundleContent, write_bundle
from lookalike_model.ensemble import Ensemble, read_model
from lookalike_model.network import NetworkError, RetrievalNetwork, check_architecture, default_pool
from lookalike_model.registry import RegistryError, check_against_manifest
from lookalike_model.spec import NetworkSpec
from lookalike_model.timm_config import TimmFolder, built_for_one_size, read_timm_config
from lookalike_model.weights import WeightsError, load_weights
from lookalike_trainer.training.errors import JobError, Reason
from lookalike_trainer.training.events import EventLog
from lookalike_trainer.training.job import ImportJob
from lookalike_trainer.training.result import BUNDLE, SCRATCH, Result


def run_folder_import(job: ImportJob, folder: Path, log: EventLog) -> Result:
    """Bring the files together and make the bundle of them.

    Raises:
        JobError: INVALID_BUNDLE, if a bundle was changed or the folder is of neither kind; INVALID_WEIGHTS, if they do not fit.
    """
    log.report("prepare", 0, 1, "networks")
    kind = _take_over if RETRIEVAL in job.folder else _from_timm
    bundle = kind(job, folder)
    log.report("bundle", 1, 1, "bundles")
    metrics = {name: metric.value for name, metric in bundle.description.metrics.items()}
    return Result.of(bundle, metrics, _notes(bundle))


def _take_over(job: ImportJob, folder: Path) -> Bundle | Ensemble:
    _lay_out(job, folder / BUNDLE)
    try:
        check_against_manifest(folder / BUNDLE)
        return read_model(folder / BUNDLE)
    except (RegistryError, BundleError) as error:
        raise JobError(Reason.INVALID_BUNDLE, f"the bundle is not taken: {error}") from error


def _from_timm(job: ImportJob, folder: Path) -> Bundle:
    if missing := {CONFIG, MODEL} - job.folder.keys():
        message = (
            f"the folder lacks {' and '.join(sorted(missing))}: give a bundle, or a folder with {CONFIG} and {MODEL} as timm writes it"
        )
        raise JobError(Reason.INVALID_BUNDLE, message)
    source = folder / SCRATCH
    _lay_out(job, source)
    try:
        told = read_timm_config(read_json(source / CONFIG))
        network = RetrievalNetwork(_spec(told), told.statistics)
        loaded = load_weights(network, source / MODEL).message
    except (NetworkError, BundleError) as error:
        raise JobError(Reason.INVALID_BUNDLE, f"the folder is not taken: {error}") from error
    except WeightsError as error:
        raise JobError(Reason.INVALID_WEIGHTS, str(error)) from error
    notes = (f"Imported from a timm folder: {loaded}.", "Not trained on any pictures of yours: unproven on them.")
    recipe = {"import": {"kind": "folder", "name": told.architecture}}
    return write_bundle(folder / BUNDLE, BundleContent(job.model, network, told.preprocessing, recipe=recipe, notes=notes))


def _spec(told: TimmFolder) -> NetworkSpec:
    check_architecture(told.architecture)
    size = told.preprocessing.size if built_for_one_size(told.architecture) else None
    return NetworkSpec(architecture=told.architecture, pool=told.pool or default_pool(told.architecture), image_size=size)


def _lay_out(job: ImportJob, target: Path) -> None:
    for name, blob in job.folder.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(blob, target / name)


def _notes(bundle: Bundle | Ensemble) -> tuple[str, ...]:
    data = bundle.description.data if isinstance(bundle, Bundle) else None
    if data is None:
        return ("Imported as it is; nothing was measured on pictures of yours.",)
    return (f"Imported as it is; it was trained elsewhere on `{data.name}`, revision {data.revision} ({data.fingerprint}).",)
