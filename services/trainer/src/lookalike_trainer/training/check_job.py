"""A check: a dataset is looked at, and nothing is trained."""

from pathlib import Path

import torch

from lookalike_images import Preprocessing
from lookalike_model.network import default_pool
from lookalike_model.spec import NetworkSpec
from lookalike_model.timm_config import built_for_one_size, preprocessing_of
from lookalike_trainer.training.dataset import Labels, describe_unreadable, read_pictures
from lookalike_trainer.training.events import EventLog
from lookalike_trainer.training.interruption import Interruption
from lookalike_trainer.training.job import CheckJob
from lookalike_trainer.training.preparation import prepare_pixels
from lookalike_trainer.training.report_stage import Inspected, Teller, inspect_data, leave_check
from lookalike_trainer.training.result import SCRATCH, Checked
from lookalike_trainer.training.start import StartingPoint, build_network, open_start

_SIZE = 96


def run_check(job: CheckJob, folder: Path, log: EventLog, stop: Interruption) -> Checked:
    """Look at every picture and leave `report.html`, `checks.json` and `suspects.csv`.

    Raises:
        JobError: the network cannot be had, or there is too little that can be read.
        Cancelled: the job was told to stop.
    """
    point = open_start(job.init, None)
    preprocessing = _preprocessing(point)
    network, _ = build_network(_spec(point, preprocessing), point, seed=0)
    pictures = read_pictures(job.dataset)
    blobs, scratch = Path(job.dataset.blobs), folder / SCRATCH
    store = prepare_pixels(pictures, blobs, preprocessing, [preprocessing.size], scratch, log, stop)
    describe_unreadable(store.unreadable, len(pictures))
    Labels.of(store.pictures)
    log.report("prepare", len(pictures), len(pictures), "pictures")
    inspected = Inspected(job.dataset, pictures, store, preprocessing, "cuda" if torch.cuda.is_available() else "cpu")
    findings = inspect_data(inspected, Teller(network, _name(job)), (), log, stop)
    leave_check(folder, inspected, findings)
    log.report("report", len(pictures), len(pictures), "pictures")
    notes = findings.sentences() or ("Nothing was found to be wrong.",)
    return Checked(metrics={"doubtful_labels": float(len(findings.suspects))}, notes=notes)


def _preprocessing(point: StartingPoint) -> Preprocessing:
    """A bundle's own; else a size at which a look at many pictures is fast and tells enough."""
    if point.preprocessing:
        return point.preprocessing
    if built_for_one_size(point.architecture):
        return preprocessing_of(point.architecture)
    return Preprocessing(_SIZE, "squash", 1.0, "bicubic")


def _spec(point: StartingPoint, preprocessing: Preprocessing) -> NetworkSpec:
    return NetworkSpec(
        architecture=point.architecture,
        pool=point.pool or default_pool(point.architecture),
        embedding=point.embedding,
        image_size=preprocessing.size if built_for_one_size(point.architecture) else None,
    )


def _name(job: CheckJob) -> str:
    return job.init.label or f"the built-in weights {job.init.name}"
