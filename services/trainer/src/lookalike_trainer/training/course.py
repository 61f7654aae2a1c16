"""The course of a training: epochs and evaluations, checkpoints on the way, steps back when it goes wrong."""

import errno
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from lookalike_trainer.training.checkpoints import Checkpoints
from lookalike_trainer.training.errors import Cancelled, JobError, Reason
from lookalike_trainer.training.events import Log
from lookalike_trainer.training.loop import Trainer
from lookalike_trainer.training.metrics import flat_metrics
from lookalike_trainer.training.optimisation import slow_down
from lookalike_trainer.training.packing import pack
from lookalike_trainer.training.parts_request import ask_for_parts, asked_parts, forget_request
from lookalike_trainer.training.position import PositionFile
from lookalike_trainer.training.ranks import ALONE, PartedError, Ranks
from lookalike_trainer.training.state import Best, Scores, TrainingState

_RETRIED = (Reason.NON_FINITE_LOSS, Reason.COLLAPSED, Reason.RATE_TOO_HIGH)
_RETREAT_POINTS = 10
_SHARE_OF_TIME = 0.02
_FEWEST_ROWS = 8
_CHECKPOINTS_AT_ONCE = 4
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Evaluation(Protocol):
    """Measures a state on the held-out classes."""

    def score(self, state: TrainingState) -> Scores:
        """Scores by profile; none where nothing is held out."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a training stands.

    Attributes:
        folder: for its checkpoints.
        job: folder of the job.
        before: steps that the job's earlier trainings took.
    """

    folder: Path
    job: Path
    before: int = 0


class Course:
    """One training, from its first step or from its last checkpoint to its end."""

    def __init__(
        self, trainer: Trainer, state: TrainingState, evaluation: Evaluation, place: Place, log: Log, ranks: Ranks = ALONE
    ) -> None:
        self._trainer = trainer
        self._state = state
        self._loop = trainer.recipe.recipe.loop
        self._evaluation = evaluation
        self._place = place
        self._checkpoints = Checkpoints(place.folder)
        self._log = log
        self._ranks = ranks
        self._written = time.monotonic()
        self._cost = 0.0
        self._lacked_room = False

    def run(self) -> Scores:
        """Train to the end; the scores of the weights that `state.result` then holds.

        Raises:
            JobError: the training has gone wrong for good.
            Cancelled: the job was told to stop; a checkpoint was written.
            PartedError: another rank is gone, or all must be started again.
        """
        with PositionFile(self._place.job) as self._position:
            self._take_up()
            try:
                while not self._is_over():
                    self._run_epoch()
            except Cancelled:
                self._keep()
                raise
        best = self._state.best
        if best is not None and best.weights is not None and (self._loop.keep == "best" or self.has_lost):
            self._state.result.load_state_dict(best.weights)
            return best.scores
        return self._state.scores

    @property
    def has_lost(self) -> bool:
        """Whether the last epoch ranks the held-out classes worse than the weights that were started from (random ones know nothing)."""
        start, known = self._state.start_map, self._trainer.recipe.start.kind != "random"
        return known and start is not None and self._state.scores["plain"].map < start

    @property
    def _steps(self) -> int:
        return self._state.epoch * self._trainer.steps_per_epoch + self._state.step

    def _take_up(self) -> None:
        kept, parts = self._checkpoints.newest(), asked_parts(self._place.job)
        self._ranks.wait()  # before any of them writes
        if kept is not None:
            self._state.load_state_dict(kept["training"])
            self._log.milestones = kept["milestones"]
            self._note_position(self._steps)
            if parts > self._state.parts:
                self._split_batches(parts)
            if self._ranks.is_first:
                forget_request(self._place.job)
            return
        self._ranks.from_first(self._check_room)
        self._state.scores = self._evaluation.score(self._state)
        self._state.start_map = self._state.scores["plain"].map if self._state.scores else None
        self._note_best()
        metrics = flat_metrics(self._state.scores, None)
        self._log.report("evaluate", 0, self._trainer.epochs, "epochs", "before training", metrics)
        self._keep(retreat=True)

    def _is_over(self) -> bool:
        state = self._state
        waited = state.epoch - state.best.epoch if state.best else 0
        return state.epoch >= self._trainer.epochs or 0 < self._loop.patience <= waited

    def _run_epoch(self) -> None:
        try:
            self._trainer.run_epoch(self._state, self._after_step)
        except JobError as error:
            if error.reason not in _RETRIED or self._state.retreats >= self._loop.retreats:
                raise
            gone_wrong: JobError | None = error
        except torch.OutOfMemoryError:
            gone_wrong = None  # handled below, where the frames that hold the tensors are gone
        else:
            self._conclude_epoch()
            return
        if gone_wrong is None:
            self._take_smaller_parts()
        else:
            self._step_back(gone_wrong)

    def _after_step(self, done: int, total: int) -> None:
        self._note_position(done)
        self._log.tick("train", done, total, "steps")
        if self._is_due(self._loop.checkpoint_seconds):
            self._keep()

    def _conclude_epoch(self) -> None:
        state, epochs = self._state, self._trainer.epochs
        figures = state.conclude_epoch(self._evaluation.score(state))
        self._note_best()
        message = f"epoch {state.epoch} of {epochs}"
        if self._is_over() and state.epoch < epochs and state.best is not None:
            message += f", the last: no better mAP on the held-out classes since epoch {state.best.epoch}"
        self._log.report("train", self._steps, self._trainer.steps, "steps", message, flat_metrics(state.scores, figures))
        points = min(epochs, _RETREAT_POINTS)
        if state.epoch * points // epochs > (state.epoch - 1) * points // epochs:
            self._keep(retreat=True)
        elif self._is_over() or self._is_due(0):
            self._keep()

    def _note_best(self) -> None:
        """Remember the epoch if it is the best so far, judged by the default profile."""
        state, loop = self._state, self._loop
        if "plain" not in state.scores or (loop.patience == 0 and loop.keep == "last"):
            return
        if state.best is None or state.scores["plain"].map > state.best.scores["plain"].map:
            weights = {name: tensor.detach().clone() for name, tensor in state.result.state_dict().items()}
            state.best = Best(state.epoch, state.scores, None if loop.keep == "last" else weights)

    def _step_back(self, error: JobError) -> None:
        """To the last retreat point, at half the rate; raises the error if there is none."""
        retreats = self._state.retreats + 1
        if not self._go_back(retreats, self._state.parts):
            raise error
        again = f"half the rate (try {retreats} of {self._loop.retreats})"
        self._tell_retreat(f"{error.reason}: {error}. Stepped back to the end of epoch {self._state.epoch}, with {again}")

    def _take_smaller_parts(self) -> None:
        """The device has too little memory: back to the last retreat point, each batch in twice as many parts.

        Raises:
            JobError: OUT_OF_MEMORY, if the parts would be too small.
            PartedError: there are other ranks, who may be anywhere in the step: all must be started again.
        """
        torch.cuda.empty_cache()
        parts = 2 * self._state.parts
        if self._ranks.size > 1:
            ask_for_parts(self._place.job, parts)
            raise PartedError(f"rank {self._ranks.rank} has too little memory: batches are to go through the network in {parts} parts")
        self._split_batches(parts)

    def _split_batches(self, parts: int) -> None:
        rows = self._trainer.batch_size // self._ranks.size
        if rows // parts < _FEWEST_ROWS or not self._go_back(self._state.retreats, parts):
            raise JobError(
                Reason.OUT_OF_MEMORY,
                f"the device has too little memory, even for a batch of {rows} pictures in {self._state.parts} "
                "parts; try a smaller `pixels.size`, `loop.recompute=all`, or fewer `sampler.classes`",
            )
        self._tell_retreat(f"OUT_OF_MEMORY: too little memory on the device. Each batch now goes through the network in {parts} parts")

    def _go_back(self, retreats: int, parts: int) -> bool:
        """To the last retreat point, but with these many retreats (the rate is halved for each) and parts; False if there is none."""
        kept = self._checkpoints.retreat()
        self._ranks.wait()
        if kept is None:
            return False
        state = self._state
        state.load_state_dict(kept["training"])
        slow_down(state.optimiser, state.schedule, 0.5 ** (retreats - state.retreats))
        state.retreats, state.parts = retreats, parts
        return True

    def _tell_retreat(self, message: str) -> None:
        self._log.report("train", self._steps, self._trainer.steps, "steps", message)
        self._note_position(self._steps)
        self._keep()

    def _note_position(self, steps: int) -> None:
        if self._ranks.is_first:
            self._position.note(self._place.before + steps)

    def _is_due(self, seconds: float) -> bool:
        return time.monotonic() - self._written >= max(seconds, self._cost / _SHARE_OF_TIME)

    def _keep(self, *, retreat: bool = False) -> None:
        """Write a checkpoint. A full disk does not end a training that works: it goes on with the checkpoints there are."""
        if not self._ranks.is_first:
            return
        started = time.monotonic()
        try:
            self._checkpoints.write({"training": self._state.state_dict(), "milestones": self._log.milestones}, retreat=retreat)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self._tell_no_room()
        else:
            self._lacked_room = False
        self._written = time.monotonic()
        self._cost = self._written - started

    def _tell_no_room(self) -> None:
        if not self._lacked_room:
            self._lacked_room = True
            message = "DISK_FULL: no room for a new checkpoint. The training goes on from memory, make room before it ends"
            self._log.remark("train", self._steps, self._trainer.steps, "steps", message)

    def _check_room(self) -> None:
        """Raise JobError (DISK_FULL) if the checkpoints and the bundle will not fit."""
        _, tensors = pack(self._state.state_dict())
        weights = sum(tensor.nbytes for tensor in self._state.result.state_dict().values())
        needed = _CHECKPOINTS_AT_ONCE * (sum(tensor.nbytes for tensor in tensors.values()) + 2 * weights) + weights
        if (free := shutil.disk_usage(self._place.folder).free) < needed:
            raise JobError(
                Reason.DISK_FULL,
                f"checkpoints and model need {needed >> 20} MiB on the disk of the data folder, {free >> 20} MiB are free: make room",
            )
