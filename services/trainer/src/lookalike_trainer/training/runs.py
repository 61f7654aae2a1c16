"""One job that trains several times: with several seeds, on each fold, or both. The run that becomes the model comes last."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lookalike_model.records import Record
from lookalike_runtime.data_folder import write_whole
from lookalike_trainer.training.events import Log, Stage
from lookalike_trainer.training.job import RUNS
from lookalike_trainer.training.recipe import SplitRecipe

_OUTCOME = "outcome.json"
_SCORES = {"heldout_map": "mAP on classes held out", "fold_map": "mAP of the folds' pictures, whose classes were trained on"}


@dataclass(frozen=True, slots=True)
class Run:
    """One training; `fold` counts from 0 and is None where there are no folds."""

    seed: int
    fold: int | None = None

    @property
    def name(self) -> str:
        """For people."""
        return f"seed {self.seed}" if self.fold is None else f"seed {self.seed}, fold {self.fold + 1}"

    def folder(self, job: Path) -> Path:
        """Where a run that does not become the model keeps what it goes on from."""
        return job / RUNS / (f"seed-{self.seed}" if self.fold is None else f"seed-{self.seed}-fold-{self.fold + 1}")


class Outcome(Record):
    """What came of a run.

    Attributes:
        heldout_map: mAP on the classes that were held out; None if there were none.
        fold_map: mAP of the fold's pictures; None without folds.
        milestones: events that the job had come past when it ended.
        steps: it took.
    """

    name: str
    heldout_map: float | None
    fold_map: float | None
    milestones: int
    steps: int


def runs_of(split: SplitRecipe, seed: int) -> list[Run]:
    """All runs of a job; that with the job's seed, and the first fold, is the last."""
    seeds = [(seed + number) % 2**64 for number in range(split.seeds)]
    folds: list[int | None] = [None] if split.kind == "class-disjoint" else list(range(split.fold_count))
    first, *others = [Run(each, fold) for each in seeds for fold in folds]
    return [*others, first]


def read_outcome(folder: Path) -> Outcome | None:
    """What a run that is over has left; None if it is not."""
    path = folder / _OUTCOME
    return Outcome.model_validate_json(path.read_bytes()) if path.exists() else None


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Once it is there, the run is not done again."""
    write_whole(folder / _OUTCOME, json.dumps(outcome.model_dump(mode="json")).encode())


def spread_of(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Every score, and of each kind mean and spread, a standard deviation; nothing of a single run without folds."""
    metrics: dict[str, float] = {}
    for kind, scores in _scores(outcomes).items():
        metrics |= {f"{kind}_run_{number}": score for number, score in enumerate(scores, 1)}
        metrics[f"{kind}_mean"] = statistics.fmean(scores)
        metrics[f"{kind}_spread"] = statistics.stdev(scores)
    return metrics


def describe_spread(outcomes: Sequence[Outcome]) -> str | None:
    """The same as sentences for the user; None of a single run."""
    if len(outcomes) < 2:
        return None
    told = [f"{len(outcomes)} trainings ({'; '.join(outcome.name for outcome in outcomes)}); the model is that of the last."]
    for kind, scores in _scores(outcomes).items():
        each = ", ".join(f"{score:.3f}" for score in scores)
        told.append(f"The {_SCORES[kind]}: {each}; mean {statistics.fmean(scores):.3f}, spread {statistics.stdev(scores):.3f}.")
    if any(outcome.fold_map is not None for outcome in outcomes):
        told.append("Only the classes held out say how it ranks classes that it has not seen: the folds flatter.")
    return " ".join(told)


def _scores(outcomes: Sequence[Outcome]) -> dict[str, list[float]]:
    if len(outcomes) < 2:
        return {}
    kinds = {kind: [value for outcome in outcomes if (value := getattr(outcome, kind)) is not None] for kind in _SCORES}
    return {kind: scores for kind, scores in kinds.items() if len(scores) > 1}


class RunLog:
    """A job's log as one of its runs sees it: steps are counted over all runs, and messages say which it is."""

    def __init__(self, log: Log, name: str, number: int, count: int) -> None:
        self._log = log
        self._name = name
        self._number = number
        self._count = count

    @property
    def milestones(self) -> int:
        """That the job has come past."""
        return self._log.milestones

    @milestones.setter
    def milestones(self, count: int) -> None:
        self._log.milestones = count

    def report(self, stage: Stage, done: int, total: int, unit: str, message: str = "", metrics: Mapping[str, float] | None = None) -> None:
        """Append an event."""
        self._log.report(stage, *self._over_all(done, total), unit, self._named(message), metrics)

    def remark(self, stage: Stage, done: int, total: int, unit: str, message: str) -> None:
        """Append an event that belongs to this run of the worker."""
        self._log.remark(stage, *self._over_all(done, total), unit, self._named(message))

    def tick(self, stage: Stage, done: int, total: int, unit: str) -> None:
        """Report progress, but not more often than once a second."""
        self._log.tick(stage, *self._over_all(done, total), unit)

    def _over_all(self, done: int, total: int) -> tuple[int, int]:
        return self._number * total + done, self._count * total

    def _named(self, message: str) -> str:
        return f"{self._name}: {message}" if message else ""
