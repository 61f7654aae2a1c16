"""A training job from its first stage to its bundle."""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lookalike_images import Preprocessing
from lookalike_model import bundle as bundles
from lookalike_model.bundle import Bundle
from lookalike_model.bundle_writer import BundleContent, write_bundle
from lookalike_model.profile import Profile
from lookalike_model.spec import NetworkSpec
from lookalike_trainer.data_checks.findings import describe_both_sides, on_both_sides
from lookalike_trainer.exclusion import read_excluded
from lookalike_trainer.training.dataset import Labels, describe_singles, describe_unreadable, read_pictures
from lookalike_trainer.training.errors import Cancelled, JobError, Reason
from lookalike_trainer.training.evaluation import HeldOut, HeldOutScores
from lookalike_trainer.training.events import EventLog
from lookalike_trainer.training.interruption import Interruption
from lookalike_trainer.training.job import TrainJob
from lookalike_trainer.training.loop import EpochFigures, Trainer, TrainingData, TrainingState
from lookalike_trainer.training.pixels import PixelStore, load_pixels
from lookalike_trainer.training.recipe import Recipe
from lookalike_trainer.training.recipe_files import load_recipe, recipe_label
from lookalike_trainer.training.report_stage import Inspected, Teller, inspect_data, leave_training
from lookalike_trainer.training.resolve import (
    Device,
    PixelPlan,
    ResolvedRecipe,
    TrainingSet,
    choose_batch,
    choose_epochs,
    choose_network,
    plan_pixels,
    preprocessing_for,
)
from lookalike_trainer.training.result import BUNDLE, SCRATCH, Result
from lookalike_trainer.training.sampler import ClassBalancedSampler
from lookalike_trainer.training.split import Split, split_classes
from lookalike_trainer.training.start import StartingPoint, build_network, open_start

_UNPROVEN = (
    "No classes were held out, so the model is unproven: nothing was measured on classes that it has not seen. "
    "Holding out needs at least 10 classes, enough of them with two pictures."
)


@dataclass(frozen=True)
class Plan:
    """What is settled before a picture is decoded."""

    recipe: Recipe
    device: Device
    point: StartingPoint
    pixels: PixelPlan
    network: NetworkSpec

    @property
    def preprocessing(self) -> Preprocessing:
        """Of serving."""
        return preprocessing_for(self.recipe, self.pixels)


def run_train(job: TrainJob, folder: Path, log: EventLog, stop: Interruption) -> Result:
    """Train a model and write its bundle into the job's folder.

    Raises:
        JobError: the job cannot go on.
        Cancelled: the job was told to stop.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    # A net for bugs, which costs a pass over every tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    plan = _plan(job)
    store = _load(job, plan, folder, log, stop)
    labels = Labels.of(store.pictures)
    split = split_classes(labels.names, labels.counts, plan.recipe.split.held_out, job.seed)
    resolved = _resolve(job, plan, labels, split)
    torch.set_num_threads(resolved.threads)
    class_fc = len(split.train) if plan.recipe.objective.cross_entropy else None
    network, loaded = build_network(resolved.network, plan.point, job.seed, class_fc)
    trainer = Trainer(resolved, _training_data(store, labels, split, resolved), stop)
    state = trainer.begin(network)
    evaluation = _Evaluation(plan, store, labels, split, stop)
    scores = _train(trainer, state, evaluation, log)
    notes = _notes(job, store, split, loaded)
    metrics = _metrics(scores, state.history[-1])
    log.report("bundle", 0, 1, "bundles")
    content = BundleContent(
        name=job.model,
        network=state.result,
        preprocessing=plan.preprocessing,
        profiles=evaluation.profiles,
        metrics=_figures(scores),
        data=_data(job, store, labels, split),
        recipe=resolved.model_dump(mode="json"),
        notes=notes,
    )
    bundle = write_bundle(folder / BUNDLE, content)
    log.report("bundle", 1, 1, "bundles", metrics=metrics)
    _report(job, plan, folder, store, split, bundle, notes, log, stop)
    return Result.of(bundle, metrics, notes)


def _report(
    job: TrainJob,
    plan: Plan,
    folder: Path,
    store: PixelStore,
    split: Split,
    bundle: Bundle,
    notes: Sequence[str],
    log: EventLog,
    stop: Interruption,
) -> None:
    """Leave the report; that it cannot be made is said and costs no model."""
    pictures = read_pictures(job.dataset)
    inspected = Inspected(job.dataset, pictures, store, plan.preprocessing, plan.device)
    names = Labels.of(store.pictures).names
    log.report("report", 0, len(store.pictures), "pictures")
    try:
        teller = _teller(job, plan, bundle)
        findings = inspect_data(inspected, teller, [names[index] for index in split.held_out], log, stop)
        leave_training(folder, job, inspected, findings, bundle, split, notes, stop)
    except Cancelled:
        raise
    except Exception as error:  # whatever it is, the model is made
        traceback.print_exc()
        log.report("report", 0, len(store.pictures), "pictures", f"the report could not be made: {error}")
    else:
        log.report("report", len(store.pictures), len(store.pictures), "pictures", " ".join(findings.sentences()))


def _teller(job: TrainJob, plan: Plan, bundle: Bundle) -> Teller:
    """What it was started from: the trained network knows its labels by heart, wrong ones included."""
    if plan.point.weights is None:
        return Teller(bundle.network, "the trained network, as it was started from random weights: it knows wrong labels by heart")
    network, _ = build_network(plan.network, plan.point, job.seed)
    return Teller(network, f"what it was started from ({job.init.label or job.init.name or job.init.kind})")


class _Evaluation:
    """The held-out classes, if there are any, and the profiles they are ranked with."""

    def __init__(self, plan: Plan, store: PixelStore, labels: Labels, split: Split, stop: Interruption) -> None:
        self.profiles = {"plain": Profile()}
        if plan.network.embedding is not None:
            self.profiles["embedding"] = Profile(tap="embedding")
        self._device = plan.device
        rows = labels.rows_of(split.held_out)
        self._held_out = HeldOut(store, labels, rows, plan.preprocessing, stop) if split.held_out else None

    def score(self, state: TrainingState) -> dict[str, HeldOutScores]:
        """Scores by profile; none where nothing is held out."""
        if self._held_out is None:
            return {}
        held_out = self._held_out
        return {name: held_out.score(state.result, each, self._device) for name, each in self.profiles.items()}


def _plan(job: TrainJob) -> Plan:
    recipe = load_recipe(job.recipe, job.overrides, job.recipe_toml)
    asked = recipe.network.architecture
    point = open_start(job.init, None if asked == "auto" else asked)
    device = _choose_device(recipe)
    pixels = plan_pixels(recipe, device, point)
    return Plan(recipe, device, point, pixels, choose_network(recipe, pixels, point))


def _choose_device(recipe: Recipe) -> Device:
    there = torch.cuda.is_available()
    if recipe.loop.device == "cuda" and not there:
        raise JobError(Reason.INVALID_RECIPE, "recipe key `loop.device` is `cuda`, but this machine has no CUDA device; take `cpu`")
    return "cuda" if there and recipe.loop.device != "cpu" else "cpu"


def _load(job: TrainJob, plan: Plan, folder: Path, log: EventLog, stop: Interruption) -> PixelStore:
    pictures = read_pictures(job.dataset)
    log.report("prepare", 0, len(pictures), "pictures")

    def progress(done: int, total: int) -> None:
        stop.check()
        log.tick("prepare", done, total, "pictures")

    sizes = [plan.pixels.serving, *plan.pixels.phases]
    store = load_pixels(pictures, Path(job.dataset.blobs), plan.preprocessing, sizes, folder / SCRATCH, progress)
    describe_unreadable(store.unreadable, len(pictures))
    log.report("prepare", len(pictures), len(pictures), "pictures")
    return store


def _resolve(job: TrainJob, plan: Plan, labels: Labels, split: Split) -> ResolvedRecipe:
    counts = labels.counts[list(split.train)]
    data = TrainingSet(pictures=int(counts.sum()), classes=len(counts), largest_class=int(counts.max()))
    classes, pictures = choose_batch(plan.recipe, data)
    path = None if job.init.path is None else Path(job.init.path).name
    return ResolvedRecipe(
        name=recipe_label(job.recipe, job.recipe_toml),
        recipe=plan.recipe,
        start=job.init.model_copy(update={"path": path}),
        seed=job.seed,
        network=plan.network,
        pixels=plan.pixels,
        classes_per_batch=classes,
        pictures_per_class=pictures,
        epochs=choose_epochs(plan.recipe, data, plan.device),
        device=plan.device,
        threads=torch.get_num_threads(),
    )


def _training_data(store: PixelStore, labels: Labels, split: Split, resolved: ResolvedRecipe) -> TrainingData:
    number = np.full(len(labels.names), -1, dtype=np.int64)
    number[list(split.train)] = np.arange(len(split.train))
    rows = {index: labels.rows_of([label]) for index, label in enumerate(split.train)}
    sampler = ClassBalancedSampler(rows, resolved.classes_per_batch, resolved.pictures_per_class)
    return TrainingData(store, number[labels.of_row], sampler)


def _train(trainer: Trainer, state: TrainingState, evaluation: _Evaluation, log: EventLog) -> dict[str, HeldOutScores]:
    scores = evaluation.score(state)
    log.report("evaluate", 0, trainer.epochs, "epochs", "before training", _metrics(scores, None))
    while state.epoch < trainer.epochs:
        figures = trainer.run_epoch(state, lambda done, total: log.tick("train", done, total, "steps"))
        scores = evaluation.score(state)
        done = state.epoch * trainer.steps // trainer.epochs
        message = f"epoch {state.epoch} of {trainer.epochs}"
        log.report("train", done, trainer.steps, "steps", message, _metrics(scores, figures))
    return scores


def _metrics(scores: dict[str, HeldOutScores], figures: EpochFigures | None) -> dict[str, float]:
    """Flat figures; those of another profile than `plain` end in its name."""
    metrics: dict[str, float] = {}
    if figures is not None:
        metrics["train_loss"] = figures.loss
        metrics["distance_spread"] = figures.spread
        metrics["rate"] = figures.rate
        metrics["pictures_per_second"] = figures.pictures_per_second
    for profile, each in scores.items():
        suffix = "" if profile == "plain" else f"_{profile}"
        metrics[f"heldout_map{suffix}"] = each.map
        metrics[f"heldout_map_low{suffix}"] = each.low
        metrics[f"heldout_map_high{suffix}"] = each.high
        metrics[f"heldout_r1{suffix}"] = each.r1
    return metrics


def _figures(scores: dict[str, HeldOutScores]) -> dict[str, bundles.Metric]:
    """The same for the bundle, with intervals."""
    figures = {}
    for profile, each in scores.items():
        suffix = "" if profile == "plain" else f"_{profile}"
        figures[f"heldout_map{suffix}"] = bundles.Metric(value=each.map, ci95=(each.low, each.high))
        figures[f"heldout_r1{suffix}"] = bundles.Metric(value=each.r1)
    return figures


def _data(job: TrainJob, store: PixelStore, labels: Labels, split: Split) -> bundles.TrainingData:
    excluded = read_excluded(Path(job.dataset.excluded)) if job.dataset.excluded else ()
    return bundles.TrainingData(
        name=job.dataset.name,
        revision=job.dataset.revision,
        fingerprint=job.dataset.fingerprint,
        pictures=len(store.pictures),
        classes=len(labels.names),
        held_out_classes=len(split.held_out),
        excluded_pictures=len(excluded),
        excluded_sha256=Path(job.dataset.excluded).name if job.dataset.excluded else "",
    )


def _notes(job: TrainJob, store: PixelStore, split: Split, loaded: str | None) -> tuple[str, ...]:
    total = len(store.pictures) + len(store.unreadable)
    names = Labels.of(store.pictures).names
    held_out = [names[index] for index in split.held_out]
    return tuple(
        note
        for note in (
            None if split.held_out else _UNPROVEN,
            describe_unreadable(store.unreadable, total),
            describe_singles(store.pictures),
            describe_both_sides(on_both_sides(store.pictures, held_out)),
            f"Started from {job.init.kind}: {loaded}." if loaded else "Started from random weights.",
        )
        if note
    )
