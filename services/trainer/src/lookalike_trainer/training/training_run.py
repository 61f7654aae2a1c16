"""One training of a job: its split, its resolved recipe, its course."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike_model.network import RetrievalNetwork
from lookalike_model.profile import Profile
from lookalike_trainer.training.batches import TrainingData
from lookalike_trainer.training.course import Course, Place
from lookalike_trainer.training.dataset import Labels
from lookalike_trainer.training.devices import check_batch
from lookalike_trainer.training.evaluation import HeldOut, HeldOutScores
from lookalike_trainer.training.events import Log
from lookalike_trainer.training.frozen import Frozen, read_frozen, write_frozen
from lookalike_trainer.training.interruption import Interruption
from lookalike_trainer.training.job import TrainJob
from lookalike_trainer.training.loop import Trainer
from lookalike_trainer.training.pixels import PixelStore
from lookalike_trainer.training.plan import Plan
from lookalike_trainer.training.ranks import Ranks
from lookalike_trainer.training.recipe import LoopRecipe
from lookalike_trainer.training.recipe_files import recipe_label
from lookalike_trainer.training.resolve import ResolvedRecipe, TrainingSet, choose_batch, choose_epochs
from lookalike_trainer.training.runs import Run
from lookalike_trainer.training.sampler import ClassBalancedSampler
from lookalike_trainer.training.split import Split, fold_rows, split_classes
from lookalike_trainer.training.start import build_network
from lookalike_trainer.training.state import Scores, TrainingState
from lookalike_trainer.training.tuning import FEWEST_STEPS, choose_by_measuring, step_timer


@dataclass(frozen=True)
class Ground:
    """What all runs of a job stand on."""

    job: TrainJob
    plan: Plan
    store: PixelStore
    labels: Labels
    stop: Interruption
    ranks: Ranks


@dataclass(frozen=True)
class Trained:
    """What came of a run.

    Attributes:
        scores: on the held-out classes, by profile.
        fold: of the fold's pictures, whose classes were trained on, by the default profile; None without folds.
        remarks: sentences for the user about its course and about what was loaded.
        steps: of the whole training.
    """

    state: TrainingState
    resolved: ResolvedRecipe
    split: Split
    profiles: dict[str, Profile]
    scores: Scores
    fold: HeldOutScores | None
    remarks: tuple[str, ...]
    steps: int


def train(ground: Ground, run: Run, place: Place, log: Log) -> Trained:
    """Train once, or go on where a run of the worker before has left off.

    Raises:
        JobError: the training cannot go on.
        Cancelled: the job was told to stop.
        PartedError: another rank is gone.
    """
    plan, labels = ground.plan, ground.labels
    frozen = ground.ranks.from_first(lambda: read_frozen(place.folder))
    split = _split(ground, run)
    resolved = _resolve(ground, run, split) if frozen is None else frozen.resolved
    torch.set_num_threads(resolved.threads)
    class_fc = len(split.train) if plan.recipe.objective.cross_entropy else None
    network, loaded = build_network(resolved.network, plan.point, run.seed, class_fc)
    data = _training_data(ground.store, labels, split, resolved)
    check_batch(resolved, data.sampler.batch_size)
    if frozen is None:
        frozen = _measured(resolved, data, network, ground)
        if ground.ranks.is_first:
            write_frozen(place.folder, frozen)
        resolved = frozen.resolved
        torch.set_num_threads(resolved.threads)
    if frozen.measured:
        log.report("evaluate", 0, resolved.epochs, "epochs", f"measured: {frozen.measured}")
    trainer = Trainer(resolved, data, ground.stop, ground.ranks)
    state = trainer.begin(network)
    evaluation = _Evaluation(ground, split)
    course = Course(trainer, state, evaluation, place, log, ground.ranks)
    scores = course.run()
    return Trained(
        state=state,
        resolved=resolved,
        split=split,
        profiles=evaluation.profiles,
        scores=scores,
        fold=evaluation.score_fold(state),
        remarks=_remarks(ground, state, loaded, has_lost=course.has_lost),
        steps=trainer.steps,
    )


def _split(ground: Ground, run: Run) -> Split:
    labels, recipe = ground.labels, ground.plan.recipe.split
    split = split_classes(labels.names, labels.counts, recipe.held_out, run.seed)
    if run.fold is None:
        return split
    by_class = [labels.rows_of([label]) for label in split.train]
    paths = [picture.path for picture in ground.store.pictures]
    return replace(split, fold=fold_rows(by_class, paths, recipe.fold_count, run.fold, run.seed))


class _Evaluation:
    """The held-out classes, if there are any, the fold, if there is one, and the profiles they are ranked with."""

    def __init__(self, ground: Ground, split: Split) -> None:
        plan, store, labels = ground.plan, ground.store, ground.labels
        self.profiles = {"plain": Profile()}
        if plan.network.embedding is not None:
            self.profiles["embedding"] = Profile(tap="embedding")
        self._device = plan.device
        self._ranks = ground.ranks
        rows, fold = labels.rows_of(split.held_out), np.array(split.fold, dtype=np.int64)
        self._held_out = HeldOut(store, labels, rows, plan.preprocessing, ground.stop) if split.held_out else None
        self._fold = HeldOut(store, labels, fold, plan.preprocessing, ground.stop) if split.fold else None
        self._trained = labels.rows_of(split.train)

    def score(self, state: TrainingState) -> Scores:
        """Scores by profile; none where nothing is held out."""
        if self._held_out is None:
            return {}
        held_out = self._held_out
        return self._ranks.from_first(
            lambda: {name: held_out.score(state.result, each, self._device) for name, each in self.profiles.items()}
        )

    def score_fold(self, state: TrainingState) -> HeldOutScores | None:
        """Each picture of the fold ranks all pictures of the classes that were trained on."""
        if self._fold is None:
            return None
        fold = self._fold
        return self._ranks.from_first(lambda: fold.score_among(self._trained, state.result, self.profiles["plain"], self._device))


def _measured(resolved: ResolvedRecipe, data: TrainingData, network: RetrievalNetwork, ground: Ground) -> Frozen:
    """The recipe with what is measured, where the training is long enough to be worth it."""
    if resolved.epochs * data.sampler.batches_per_epoch < FEWEST_STEPS:
        return Frozen(resolved=resolved)
    chosen, measured = choose_by_measuring(resolved, step_timer(network, data, ground.stop, ground.ranks))
    return Frozen(resolved=chosen, measured=measured)


def _resolve(ground: Ground, run: Run, split: Split) -> ResolvedRecipe:
    job, plan = ground.job, ground.plan
    counts = np.array([len(rows) for rows in _rows_to_train(ground.labels, split)])
    data = TrainingSet(pictures=int(counts.sum()), classes=len(counts), largest_class=int(counts.max()))
    classes, pictures = choose_batch(plan.recipe, data)
    path = None if job.init.path is None else Path(job.init.path).name
    loop = plan.recipe.loop
    return ResolvedRecipe(
        name=recipe_label(job.recipe, job.recipe_toml),
        recipe=plan.recipe,
        start=job.init.model_copy(update={"path": path}),
        seed=run.seed,
        fold=run.fold,
        network=plan.network,
        pixels=plan.pixels,
        classes_per_batch=classes,
        pictures_per_class=pictures,
        epochs=choose_epochs(plan.recipe, data, plan.device),
        device=plan.device,
        devices=ground.ranks.size,
        threads=torch.get_num_threads() if loop.threads == "auto" else loop.threads,
        precision="fp32" if loop.precision == "auto" else loop.precision,
        memory_format="channels_last" if loop.memory_format == "auto" else loop.memory_format,
    )


def _training_data(store: PixelStore, labels: Labels, split: Split, resolved: ResolvedRecipe) -> TrainingData:
    number = np.full(len(labels.names), -1, dtype=np.int64)
    number[list(split.train)] = np.arange(len(split.train))
    rows = dict(enumerate(_rows_to_train(labels, split)))
    sampler = ClassBalancedSampler(rows, resolved.classes_per_batch, resolved.pictures_per_class)
    return TrainingData(store, number[labels.of_row], sampler)


def _rows_to_train(labels: Labels, split: Split) -> list[NDArray[np.int64]]:
    """Of each class that is trained on, those of its pictures that are in no fold."""
    fold = np.array(split.fold, dtype=np.int64)
    return [np.setdiff1d(labels.rows_of([label]), fold, assume_unique=True) for label in split.train]


def _remarks(ground: Ground, state: TrainingState, loaded: str | None, *, has_lost: bool) -> tuple[str, ...]:
    remarks = (
        _selection(ground.plan.recipe.loop, state, has_lost=has_lost),
        _retreats(state),
        f"Started from {ground.job.init.kind}: {loaded}." if loaded else "Started from random weights.",
    )
    return tuple(remark for remark in remarks if remark)


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
