"""All that training changes, as one object that a checkpoint holds."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from lookalike_model.network import RetrievalNetwork
from lookalike_trainer.training.evaluation import HeldOutScores
from lookalike_trainer.training.objectives import Objective
from lookalike_trainer.training.watchdog import Watchdog

Scores = dict[str, HeldOutScores]


@dataclass(frozen=True, slots=True)
class EpochFigures:
    """What happened in an epoch: means over its steps, pictures a second of the steps alone."""

    epoch: int
    loss: float
    spread: float
    rate: float
    pictures_per_second: float


@dataclass
class EpochSoFar:
    """The steps that an epoch has had."""

    losses: list[float] = field(default_factory=list)
    spreads: list[float] = field(default_factory=list)
    rate: float = 0.0
    pictures: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Best:
    """The epoch that ranked the held-out classes best; `weights` are None where only the last ones can be kept."""

    epoch: int
    scores: Scores
    weights: dict[str, Tensor] | None


@dataclass
class TrainingState:
    """All that a step changes.

    Attributes:
        objective: with its miner, and whatever weights it has of its own.
        average: moving average of the network's weights, if the recipe keeps one.
        epoch: epochs that are done, evaluation included.
        step: steps done in the epoch that is under way.
        so_far: their figures.
        scores: of the last evaluation, by profile.
        start_map: mAP of the default profile before the first step; None where nothing is held out.
        best: the best of them, where it may be wanted.
        retreats: how often the training has stepped back.
        parts: pieces that a batch goes through the network in.
    """

    network: RetrievalNetwork
    objective: Objective
    optimiser: Optimizer
    schedule: LambdaLR
    average: AveragedModel | None
    watchdog: Watchdog
    epoch: int = 0
    step: int = 0
    so_far: EpochSoFar = field(default_factory=EpochSoFar)
    history: list[EpochFigures] = field(default_factory=list)
    scores: Scores = field(default_factory=dict)
    start_map: float | None = None
    best: Best | None = None
    retreats: int = 0
    parts: int = 1

    @property
    def result(self) -> RetrievalNetwork:
        """The network that is evaluated and kept."""
        if self.average is None:
            return self.network
        averaged = self.average.module
        assert isinstance(averaged, RetrievalNetwork)
        return averaged

    def figures(self) -> EpochFigures:
        """Of the epoch whose steps are done."""
        so_far = self.so_far
        loss, spread = float(np.mean(so_far.losses)), float(np.mean(so_far.spreads))
        return EpochFigures(self.epoch, loss, spread, so_far.rate, so_far.pictures / max(so_far.seconds, 1e-9))

    def conclude_epoch(self, scores: Scores) -> EpochFigures:
        """Go on to the next epoch."""
        figures = self.figures()
        self.history.append(figures)
        self.scores = scores
        self.epoch += 1
        self.step, self.so_far = 0, EpochSoFar()
        return figures

    def state_dict(self) -> dict[str, Any]:
        """Everything above as dicts, lists, numbers and tensors."""
        return {
            "network": self.network.state_dict(),
            "objective": self.objective.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "watchdog": self.watchdog.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "so_far": asdict(self.so_far),
            "history": [asdict(figures) for figures in self.history],
            "scores": _scores_to_dict(self.scores),
            "start_map": self.start_map,
            "best": self.best and {**vars(self.best), "scores": _scores_to_dict(self.best.scores)},
            "retreats": self.retreats,
            "parts": self.parts,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become what `state_dict` told of."""
        self.network.load_state_dict(state["network"])
        self.objective.load_state_dict(state["objective"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.watchdog.load_state_dict(state["watchdog"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.so_far = EpochSoFar(**state["so_far"])
        self.history = [EpochFigures(**figures) for figures in state["history"]]
        self.scores = _scores_from_dict(state["scores"])
        self.start_map = state["start_map"]
        best = state["best"]
        self.best = best and Best(best["epoch"], _scores_from_dict(best["scores"]), best["weights"])
        self.retreats, self.parts = state["retreats"], state["parts"]


def _scores_to_dict(scores: Scores) -> dict[str, dict[str, float]]:
    return {profile: asdict(each) for profile, each in scores.items()}


def _scores_from_dict(scores: dict[str, dict[str, Any]]) -> Scores:
    return {profile: HeldOutScores(**each) for profile, each in scores.items()}
