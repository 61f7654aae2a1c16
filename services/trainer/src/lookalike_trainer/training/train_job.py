"""A training job from its first stage to its bundle."""

import traceback
from collections.abc import Sequence
from pathlib import Path

import torch

from lookalike_model import bundle as bundles
from lookalike_model.bundle import Bundle
from lookalike_model.bundle_writer import BundleContent, write_bundle
from lookalike_trainer.data_checks.findings import describe_both_sides, describe_fold_copies, on_both_sides
from lookalike_trainer.exclusion import read_excluded
from lookalike_trainer.training.checkpoints import Checkpoints
from lookalike_trainer.training.course import Place
from lookalike_trainer.training.dataset import Labels, describe_singles, describe_unreadable, read_pictures
from lookalike_trainer.training.errors import Cancelled
from lookalike_trainer.training.events import EventLog, Log, Unheard
from lookalike_trainer.training.frozen import first_frozen
from lookalike_trainer.training.interruption import Interruption
from lookalike_trainer.training.job import TrainJob
from lookalike_trainer.training.metrics import bundle_metrics, flat_metrics
from lookalike_trainer.training.pixels import PixelStore
from lookalike_trainer.training.plan import Plan, make_plan, make_plan_again
from lookalike_trainer.training.preparation import prepare_pixels
from lookalike_trainer.training.ranks import ALONE, Ranks
from lookalike_trainer.training.report_stage import Inspected, Teller, inspect_data, leave_training
from lookalike_trainer.training.result import BUNDLE, SCRATCH, Result
from lookalike_trainer.training.runs import Outcome, Run, RunLog, describe_spread, read_outcome, runs_of, spread_of, write_outcome
from lookalike_trainer.training.split import Split
from lookalike_trainer.training.start import build_network
from lookalike_trainer.training.training_run import Ground, Trained, train

_UNPROVEN = (
    "No classes were held out, so the model is unproven: nothing was measured on classes that it has not seen. "
    "Holding out needs at least 10 classes, enough of them with two pictures."
)


def run_train(job: TrainJob, folder: Path, log: EventLog, stop: Interruption, ranks: Ranks = ALONE) -> Result:
    """Train a model and write its bundle into the job's folder; on the first rank, if there are several.

    Raises:
        JobError: the job cannot go on.
        Cancelled: the job was told to stop.
        PartedError: another rank is gone.
    """
    ground, trained, outcomes = _train_all(job, folder, log, stop, ranks)
    notes = _notes(ground, trained, outcomes)
    metrics = {**_metrics(trained), **spread_of(outcomes)}
    log.report("bundle", 0, 1, "bundles")
    content = BundleContent(
        name=job.model,
        network=trained.state.result,
        preprocessing=ground.plan.preprocessing,
        profiles=trained.profiles,
        metrics={**_bundle_metrics(trained), **{name: bundles.Metric(value=value) for name, value in spread_of(outcomes).items()}},
        data=_data(ground, trained.split),
        recipe=trained.resolved.model_dump(mode="json"),
        notes=notes,
    )
    bundle = write_bundle(folder / BUNDLE, content)
    log.report("bundle", 1, 1, "bundles", metrics=metrics)
    _report(ground, folder, trained.split, bundle, notes, log)
    return Result.of(bundle, metrics, notes)


def follow_train(job: TrainJob, folder: Path, stop: Interruption, ranks: Ranks) -> None:
    """The same on another rank: it takes part in the steps and writes nothing.

    Raises:
        JobError, Cancelled: the first rank raises it too.
        PartedError: another rank is gone.
    """
    _train_all(job, folder, Unheard(), stop, ranks)


def _train_all(job: TrainJob, folder: Path, log: Log, stop: Interruption, ranks: Ranks) -> tuple[Ground, Trained, list[Outcome]]:
    """What became of the last run, and the outcomes of all."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    # A net for bugs, which costs a pass over every tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    ground = _ground(job, folder, log, stop, ranks)
    outcomes: list[Outcome] = []
    *others, last = runs_of(ground.plan.recipe.split, job.seed)
    steps = 0
    for number, run in enumerate(others):
        outcomes.append(_train_aside(ground, run, Place(run.folder(folder), folder, steps), RunLog(log, run.name, number, len(others) + 1)))
        steps += outcomes[-1].steps
    own_log = RunLog(log, last.name, len(others), len(others) + 1) if others else log
    trained = train(ground, last, Place(folder, folder, steps), own_log)
    outcomes.append(_outcome(last, trained, log.milestones))
    return ground, trained, outcomes


def _ground(job: TrainJob, folder: Path, log: Log, stop: Interruption, ranks: Ranks) -> Ground:
    frozen = ranks.from_first(lambda: first_frozen(folder))
    plan = make_plan(job) if frozen is None else make_plan_again(job, frozen.resolved)
    store = ranks.first_then_others(lambda: _load(job, plan, folder, log, stop, shared=ranks.size > 1))
    return Ground(job, plan, store, Labels.of(store.pictures), stop, ranks)


def _train_aside(ground: Ground, run: Run, place: Place, log: RunLog) -> Outcome:
    """A run that does not become the model; only its scores stay."""
    if done := ground.ranks.from_first(lambda: read_outcome(place.folder)):
        log.milestones = done.milestones
        return done
    place.folder.mkdir(parents=True, exist_ok=True)
    trained = train(ground, run, place, log)
    log.report("train", trained.steps, trained.steps, "steps", "done", _metrics(trained))
    outcome = _outcome(run, trained, log.milestones)
    if ground.ranks.is_first:
        write_outcome(place.folder, outcome)
        Checkpoints(place.folder).clear()
    return outcome


def _outcome(run: Run, trained: Trained, milestones: int) -> Outcome:
    held_out, fold = trained.scores.get("plain"), trained.fold
    return Outcome(
        name=run.name,
        heldout_map=held_out.map if held_out else None,
        fold_map=fold.map if fold else None,
        milestones=milestones,
        steps=trained.steps,
    )


def _metrics(trained: Trained) -> dict[str, float]:
    fold = {"fold_map": trained.fold.map, "fold_r1": trained.fold.r1} if trained.fold else {}
    return {**flat_metrics(trained.scores, trained.state.history[-1]), **fold}


def _bundle_metrics(trained: Trained) -> dict[str, bundles.Metric]:
    fold = trained.fold
    told = (
        {"fold_map": bundles.Metric(value=fold.map, ci95=(fold.low, fold.high)), "fold_r1": bundles.Metric(value=fold.r1)} if fold else {}
    )
    return {**bundle_metrics(trained.scores), **told}


def _report(ground: Ground, folder: Path, split: Split, bundle: Bundle, notes: Sequence[str], log: EventLog) -> None:
    """Leave the report; that it cannot be made is said and costs no model."""
    job, plan, store, stop = ground.job, ground.plan, ground.store, ground.stop
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


def _load(job: TrainJob, plan: Plan, folder: Path, log: Log, stop: Interruption, *, shared: bool) -> PixelStore:
    pictures = read_pictures(job.dataset)
    sizes = [plan.pixels.serving, *plan.pixels.phases]
    store = prepare_pixels(pictures, Path(job.dataset.blobs), plan.preprocessing, sizes, folder / SCRATCH, log, stop, shared=shared)
    describe_unreadable(store.unreadable, len(pictures))
    log.report("prepare", len(pictures), len(pictures), "pictures")
    return store


def _data(ground: Ground, split: Split) -> bundles.TrainingData:
    job = ground.job
    excluded = read_excluded(Path(job.dataset.excluded)) if job.dataset.excluded else ()
    return bundles.TrainingData(
        name=job.dataset.name,
        revision=job.dataset.revision,
        fingerprint=job.dataset.fingerprint,
        pictures=len(ground.store.pictures),
        classes=len(ground.labels.names),
        held_out_classes=len(split.held_out),
        excluded_pictures=len(excluded),
        excluded_sha256=Path(job.dataset.excluded).name if job.dataset.excluded else "",
    )


def _notes(ground: Ground, trained: Trained, outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    store, split = ground.store, trained.split
    total = len(store.pictures) + len(store.unreadable)
    held_out = [ground.labels.names[index] for index in split.held_out]
    notes = (
        None if split.held_out else _UNPROVEN,
        describe_spread(outcomes),
        describe_unreadable(store.unreadable, total),
        describe_singles(store.pictures),
        describe_both_sides(on_both_sides(store.pictures, held_out)),
        describe_fold_copies(store.pictures, split.fold),
    )
    return (*(note for note in notes if note), *trained.remarks)
