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
from lookalike_model.network import RetrievalNetwork
from lookalike_model.profile import Profile
from lookalike_model.spec import NetworkSpec
from lookalike_trainer.data_checks.findings import describe_both_sides, on_both_sides
from lookalike_trainer.exclusion import read_excluded
from lookalike_trainer.training.batches import TrainingData
from lookalike_trainer.training.course import Course
from lookalike_trainer.training.dataset import Labels, describe_singles, describe_unreadable, read_pictures
from lookalike_trainer.training.errors import Cancelled, JobError, Reason
from lookalike_trainer.training.evaluation import HeldOut, HeldOutScores
from lookalike_trainer.training.events import EventLog
from lookalike_trainer.training.frozen import Frozen, read_frozen, write_frozen
from lookalike_trainer.training.interruption import Interruption
from lookalike_trainer.training.job import TrainJob
from lookalike_trainer.training.loop import Trainer
from lookalike_trainer.training.metrics import bundle_metrics, flat_metrics
from lookalike_trainer.training.pixels import PixelStore, load_pixels
from lookalike_trainer.training.recipe import LoopRecipe, Recipe
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
from lookalike_trainer.training.state import TrainingState
from lookalike_trainer.training.tuning import FEWEST_STEPS, choose_by_measuring, step_timer

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
    frozen = read_frozen(folder)
    plan = _plan(job) if frozen is None else _plan_again(job, frozen.resolved)
    store = _load(job, plan, folder, log, stop)
    labels = Labels.of(store.pictures)
    split = split_classes(labels.names, labels.counts, plan.recipe.split.held_out, job.seed)
    resolved = _resolve(job, plan, labels, split) if frozen is None else frozen.resolved
    torch.set_num_threads(resolved.threads)
    class_fc = len(split.train) if plan.recipe.objective.cross_entropy else None
    network, loaded = build_network(resolved.network, plan.point, job.seed, class_fc)
    data = _training_data(store, labels, split, resolved)
    if frozen is None:
        frozen = _measured(resolved, data, network, stop)
        write_frozen(folder, frozen)
        resolved = frozen.resolved
        torch.set_num_threads(resolved.threads)
    if frozen.measured:
        log.report("evaluate", 0, resolved.epochs, "epochs", f"measured: {frozen.measured}")
    trainer = Trainer(resolved, data, stop)
    state = trainer.begin(network)
    evaluation = _Evaluation(plan, store, labels, split, stop)
    course = Course(trainer, state, evaluation, folder, log)
    scores = course.run()
    notes = _notes(job, store, split, loaded, (_selection(plan.recipe.loop, state, has_lost=course.has_lost), _retreats(state)))
    metrics = flat_metrics(scores, state.history[-1])
    log.report("bundle", 0, 1, "bundles")
    content = BundleContent(
        name=job.model,
        network=state.result,
        preprocessing=plan.preprocessing,
        profiles=evaluation.profiles,
        metrics=bundle_metrics(scores),
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


def _plan_again(job: TrainJob, resolved: ResolvedRecipe) -> Plan:
    """What was settled when the job began, whatever the recipe's file or the machine say now."""
    if resolved.device == "cuda" and not torch.cuda.is_available():
        message = "the job began on a CUDA device, and this machine has none now: bring it back, or start a new job"
        raise JobError(Reason.DEVICE_MISSING, message)
    point = open_start(job.init, None)
    return Plan(resolved.recipe, resolved.device, point, resolved.pixels, resolved.network)


def _measured(resolved: ResolvedRecipe, data: TrainingData, network: RetrievalNetwork, stop: Interruption) -> Frozen:
    """The recipe with what is measured, where the training is long enough to be worth it."""
    if resolved.epochs * data.sampler.batches_per_epoch < FEWEST_STEPS:
        return Frozen(resolved=resolved)
    chosen, measured = choose_by_measuring(resolved, step_timer(network, data, stop))
    return Frozen(resolved=chosen, measured=measured)


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
    loop = plan.recipe.loop
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
        threads=torch.get_num_threads() if loop.threads == "auto" else loop.threads,
        precision="fp32" if loop.precision == "auto" else loop.precision,
        memory_format="channels_last" if loop.memory_format == "auto" else loop.memory_format,
    )


def _training_data(store: PixelStore, labels: Labels, split: Split, resolved: ResolvedRecipe) -> TrainingData:
    number = np.full(len(labels.names), -1, dtype=np.int64)
    number[list(split.train)] = np.arange(len(split.train))
    rows = {index: labels.rows_of([label]) for index, label in enumerate(split.train)}
    sampler = ClassBalancedSampler(rows, resolved.classes_per_batch, resolved.pictures_per_class)
    return TrainingData(store, number[labels.of_row], sampler)


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


def _notes(job: TrainJob, store: PixelStore, split: Split, loaded: str | None, course: tuple[str | None, ...]) -> tuple[str, ...]:
    total = len(store.pictures) + len(store.unreadable)
    names = Labels.of(store.pictures).names
    held_out = [names[index] for index in split.held_out]
    return tuple(
        note
        for note in (
            None if split.held_out else _UNPROVEN,
            *course,
            describe_unreadable(store.unreadable, total),
            describe_singles(store.pictures),
            describe_both_sides(on_both_sides(store.pictures, held_out)),
            f"Started from {job.init.kind}: {loaded}." if loaded else "Started from random weights.",
        )
        if note
    )


def _selection(loop: LoopRecipe, state: TrainingState, *, has_lost: bool) -> str | None:
    """What the held-out classes had a say in."""
    if state.start_map is None:
        asked = loop.patience > 0 or loop.keep == "best"
        return "Nothing was held out, so `loop.patience` and `loop.keep` had nothing to go by: the last epoch is kept." if asked else None
    sentences = []
    if has_lost:
        sentences.append(
            f"After the last epoch the held-out classes are ranked worse (mAP {state.scores['plain'].map:.3f}) than by the weights that "
            f"were started from ({state.start_map:.3f}): more pictures, fewer epochs or a smaller `loop.rate` may help."
        )
    if state.best is not None and (has_lost or loop.patience > 0 or loop.keep == "best"):
        kept = state.best.epoch if loop.keep == "best" or (loop.keep == "auto" and has_lost) else state.epoch
        sentences.append(
            f"The training ended after epoch {state.epoch}, the best was epoch {state.best.epoch}, the weights are those of epoch {kept}. "
            "Where the held-out classes chose, their figures are a little too good."
        )
    return " ".join(sentences) or None


def _retreats(state: TrainingState) -> str | None:
    if not state.retreats:
        return None
    return f"The training went wrong {state.retreats} times; it was taken up again each time at half the rate. Its events say how."
