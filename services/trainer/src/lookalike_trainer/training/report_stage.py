"""The last stage of a job: it looks at its data and at what the network makes of it, and leaves files for people."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike_images import Preprocessing
from lookalike_model.bundle import Bundle
from lookalike_model.embedding_model import EmbeddingModel
from lookalike_model.network import RetrievalNetwork
from lookalike_model.profile import Profile
from lookalike_runtime.data_folder import write_whole
from lookalike_trainer.data_checks.findings import Findings, check_data, on_both_sides
from lookalike_trainer.data_checks.suspects_csv import suspects_csv
from lookalike_trainer.report.curves import boxes, read_figures
from lookalike_trainer.report.page import Page, Ranked, render
from lookalike_trainer.report.pictures import SmallPictures
from lookalike_trainer.report.ranking import Ranking
from lookalike_trainer.training.dataset import Labels, Picture
from lookalike_trainer.training.events import EventLog
from lookalike_trainer.training.interruption import Interruption
from lookalike_trainer.training.job import DatasetReference, TrainJob
from lookalike_trainer.training.pixels import PixelStore
from lookalike_trainer.training.split import Split

PAGE, CHECKS, SUSPECTS = "report.html", "checks.json", "suspects.csv"
MOST_COMPARED = 50_000
_MOST_RANKED = 5_000
_EXAMPLES = 6
_BATCH = 64


@dataclass(frozen=True)
class Inspected:
    """What is looked at.

    Attributes:
        pictures: of the manifest, without those that were left out.
        store: of those that could be read.
        preprocessing: that its pixels went through.
        device: where vectors are made.
    """

    dataset: DatasetReference
    pictures: Sequence[Picture]
    store: PixelStore
    preprocessing: Preprocessing
    device: str

    @property
    def name(self) -> str:
        """`datasets/D/revisions/R`."""
        return self.dataset.resource_name


@dataclass(frozen=True)
class Teller:
    """A network whose vectors tell which pictures look alike, and what to call it."""

    network: RetrievalNetwork
    name: str


def inspect_data(inspected: Inspected, teller: Teller, held_out: Sequence[str], log: EventLog, stop: Interruption) -> Findings:
    """Run every check; what the network was trained on must not be these labels."""
    rows = _sample(inspected.store.pictures, MOST_COMPARED)
    vectors = _embed(inspected, teller.network, rows, log, stop)
    size = inspected.preprocessing.size
    findings = check_data(inspected.name, teller.name, inspected.pictures, inspected.store, size, rows, vectors)
    return findings.model_copy(update={"both_sides": on_both_sides(inspected.store.pictures, held_out)})


def leave_check(folder: Path, inspected: Inspected, findings: Findings) -> None:
    """Write the files of a check."""
    page = Page(
        title=inspected.name.removeprefix("datasets/").replace("/revisions/", ", revision "),
        eyebrow="Data check",
        lead=f"{len(inspected.pictures):,} pictures were looked at.",
        findings=findings,
        small=SmallPictures(inspected.pictures, Path(inspected.dataset.blobs)),
        examples=_examples(inspected.store.pictures, findings),
        facts={"Dataset": inspected.name, "Fingerprint": inspected.dataset.fingerprint, "Vectors of": findings.vectors_of},
    )
    _write(folder, findings, page)


def leave_training(
    folder: Path,
    job: TrainJob,
    inspected: Inspected,
    findings: Findings,
    bundle: Bundle,
    split: Split,
    notes: Sequence[str],
    stop: Interruption,
) -> None:
    """Write the files of a training: what `leave_check` does, and how the trained network ranks classes that it has not seen."""
    data, recipe = bundle.description.data, bundle.description.recipe
    facts = {
        "Dataset": inspected.name,
        "Left out as asked": f"{data.excluded_pictures if data else 0:,}",
        "Classes held out": f"{len(split.held_out):,} of {len(split.held_out) + len(split.train):,}",
        "Recipe": str(recipe.get("name", "")),
        "Epochs": str(recipe.get("epochs", "")),
        "Network": bundle.network.spec.architecture,
        "Pixels": f"{bundle.preprocessing.size} × {bundle.preprocessing.size}",
        "Seed": str(job.seed),
    }
    page = Page(
        title=job.model,
        eyebrow="Training",
        lead=f"Job {job.uid}, on {len(inspected.store.pictures):,} pictures.",
        findings=findings,
        small=SmallPictures(inspected.pictures, Path(inspected.dataset.blobs)),
        examples=_examples(inspected.store.pictures, findings),
        facts=facts,
        notes=notes,
        figures={name: (metric.value, metric.ci95) for name, metric in bundle.description.metrics.items()},
        curves=boxes(read_figures(folder / "events.jsonl")),
        ranked=_ranked(inspected, bundle, split, stop),
    )
    _write(folder, findings, page)


def _ranked(inspected: Inspected, bundle: Bundle, split: Split, stop: Interruption) -> Ranked | None:
    labels = Labels.of(inspected.store.pictures)
    shown = split.held_out or split.train
    rows = labels.rows_of(shown)[:_MOST_RANKED]
    if max(np.bincount(labels.of_row[rows])) < 2:
        return None
    seen = "Classes held out of training" if split.held_out else "Classes that were trained on, as none were held out"
    profile = bundle.profiles[bundle.default_profile].profile
    vectors = _embed(inspected, bundle.network, rows, None, stop, profile)
    what = f"{seen}: {len(rows):,} pictures of {len(np.unique(labels.of_row[rows])):,} classes, each ranking the others."
    return Ranked([inspected.store.pictures[row] for row in rows], labels.names, Ranking(vectors, labels.of_row[rows]), what)


def _embed(
    inspected: Inspected,
    network: RetrievalNetwork,
    rows: NDArray[np.int64],
    log: EventLog | None,
    stop: Interruption,
    profile: Profile | None = None,
) -> NDArray[np.float32]:
    model = EmbeddingModel(network, inspected.preprocessing, "plain", profile or Profile(), device=inspected.device)
    vectors = np.empty((len(rows), model.dim), dtype=np.float32)
    for start in range(0, len(rows), _BATCH):
        stop.check()
        block = rows[start : start + _BATCH]
        vectors[start : start + len(block)] = model.embed(inspected.store.rows(inspected.preprocessing.size, block))
        if log:
            log.tick("report", start + len(block), len(rows), "pictures")
    return vectors


def _sample(pictures: Sequence[Picture], most: int) -> NDArray[np.int64]:
    """All rows, or of too many those whose path hashes lowest: the same ones each time."""
    if len(pictures) <= most:
        return np.arange(len(pictures), dtype=np.int64)
    order = sorted(range(len(pictures)), key=lambda row: hashlib.sha256(pictures[row].path.encode()).digest())
    return np.array(sorted(order[:most]), dtype=np.int64)


def _examples(pictures: Sequence[Picture], findings: Findings) -> Mapping[str, Sequence[str]]:
    """Some pictures of each class that the page shows; doubtful ones last."""
    doubtful = {suspect.path for suspect in findings.suspects}
    examples: dict[str, list[str]] = defaultdict(list)
    for picture in sorted(pictures, key=lambda picture: picture.path in doubtful):
        if len(examples[picture.label]) < _EXAMPLES:
            examples[picture.label].append(picture.path)
    return examples


def _write(folder: Path, findings: Findings, page: Page) -> None:
    """The page last: where it is, the others are."""
    for name, text in (
        (SUSPECTS, suspects_csv(findings.suspects)),
        (CHECKS, json.dumps(findings.model_dump(mode="json"), ensure_ascii=False, indent=1)),
        (PAGE, render(page)),
    ):
        write_whole(folder / name, text.encode(errors="replace"))
