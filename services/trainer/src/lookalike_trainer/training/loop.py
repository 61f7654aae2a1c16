"""The training itself. All that changes is in TrainingState, so that a checkpoint is one object."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from lookalike_model.network import RetrievalNetwork, tensors_to
from lookalike_model.profile import Tap
from lookalike_trainer.training.augment import draw
from lookalike_trainer.training.interruption import Interruption
from lookalike_trainer.training.objectives import Objective
from lookalike_trainer.training.pictures import Pictures
from lookalike_trainer.training.pixels import PixelStore
from lookalike_trainer.training.recipe import LoopRecipe
from lookalike_trainer.training.recompute import recompute_early_blocks
from lookalike_trainer.training.resolve import ResolvedRecipe
from lookalike_trainer.training.sampler import ClassBalancedSampler
from lookalike_trainer.training.schedule import phase_of, rate_factor
from lookalike_trainer.training.watchdog import Watchdog, spread_of_distances

OnStep = Callable[[int, int], None]
_Tensors = tuple[Tensor, ...] | list[Tensor]


@dataclass(frozen=True, slots=True)
class EpochFigures:
    """What happened in an epoch: means over its steps, pictures a second of the steps alone."""

    epoch: int
    loss: float
    spread: float
    rate: float
    pictures_per_second: float


@dataclass
class TrainingState:
    """All that a step changes.

    Attributes:
        average: moving average of the network's weights, if the recipe keeps one.
        epoch: the next one.
    """

    network: RetrievalNetwork
    objective: Objective
    optimiser: AdamW
    schedule: LambdaLR
    average: AveragedModel | None
    watchdog: Watchdog
    epoch: int = 0
    history: list[EpochFigures] = field(default_factory=list)

    @property
    def result(self) -> RetrievalNetwork:
        """The network that is evaluated and kept."""
        if self.average is None:
            return self.network
        averaged = self.average.module
        assert isinstance(averaged, RetrievalNetwork)
        return averaged


@dataclass(frozen=True)
class TrainingData:
    """What is trained on.

    Attributes:
        class_of_row: int64 [pictures in the store]: the class's number among those trained on, −1 for held-out rows.
    """

    store: PixelStore
    class_of_row: NDArray[np.int64]
    sampler: ClassBalancedSampler


class Trainer:
    """Runs epochs of a resolved recipe."""

    def __init__(self, recipe: ResolvedRecipe, data: TrainingData, stop: Interruption) -> None:
        self._recipe = recipe
        self._data = data
        self._stop = stop
        self._device = torch.device(recipe.device)
        self.epochs = recipe.epochs
        self.steps = recipe.epochs * data.sampler.batches_per_epoch

    def begin(self, network: RetrievalNetwork) -> TrainingState:
        """The state before the first step."""
        loop = self._recipe.recipe.loop
        network.to(self._device).to(memory_format=torch.channels_last)
        objective = Objective(self._recipe.recipe.objective, network, len(self._data.sampler.rows), self._recipe.seed).to(self._device)
        _train_only_what_leads_to(network, objective.taps)
        optimiser = _optimiser(network, objective, loop)
        schedule = LambdaLR(optimiser, lambda step: rate_factor(step, self.steps, loop.warm_up))
        average = AveragedModel(network, multi_avg_fn=_moving_average(loop.ema)) if loop.ema else None
        if loop.recompute == "early":
            recompute_early_blocks(network.backbone)
        quiet = round(loop.warm_up * self.steps) + self._data.sampler.batches_per_epoch
        return TrainingState(network, objective, optimiser, schedule, average, Watchdog(quiet))

    def run_epoch(self, state: TrainingState, on_step: OnStep) -> EpochFigures:
        """One pass over the sampler's batches.

        Args:
            on_step: called with (steps done, steps in all) after each.

        Raises:
            JobError: the loss is not finite, or the network has collapsed.
            Cancelled: the job was told to stop.
        """
        state.network.train()
        if self._recipe.recipe.loop.batch_norm == "frozen":
            _freeze_batch_norm(state.network)
        started, rate = time.monotonic(), float(state.schedule.get_last_lr()[0])
        losses, spreads, seen = [], [], 0
        for step, pictures, labels in self._batches(state.epoch):
            self._stop.check()
            loss, spread = self._step(state, pictures, labels)
            state.watchdog.check(step, loss, spread)
            losses.append(loss)
            spreads.append(spread)
            seen += len(labels)
            on_step(step + 1, self.steps)
        speed = seen / (time.monotonic() - started)
        figures = EpochFigures(state.epoch, float(np.mean(losses)), float(np.mean(spreads)), rate, speed)
        state.history.append(figures)
        state.epoch += 1
        return figures

    def _batches(self, epoch: int) -> Iterator[tuple[int, Pictures, Tensor]]:
        """(step, pictures, class numbers) of an epoch, on the device."""
        recipe, seed = self._recipe.recipe, self._recipe.seed
        first = epoch * self._data.sampler.batches_per_epoch
        for index, rows in enumerate(self._data.sampler.epoch(seed, epoch)):
            size = self._recipe.pixels.phases[phase_of(first + index, self.steps, recipe.loop)]
            pixels = torch.from_numpy(self._data.store.rows(size, rows)).to(self._device)
            draws = draw(seed, epoch, index * self._data.sampler.batch_size, len(rows))
            labels = torch.from_numpy(self._data.class_of_row[rows]).to(self._device)
            yield first + index, Pictures(pixels, draws, recipe.augment), labels

    def _step(self, state: TrainingState, pictures: Pictures, labels: Tensor) -> tuple[float, float]:
        images, labels = state.objective.select(state.network, pictures, labels)
        outputs = state.network(state.network.normalise(images))
        loss: Tensor = state.objective(outputs, labels)
        state.optimiser.zero_grad(set_to_none=False)
        loss.backward()  # type: ignore[no-untyped-call]
        weights = [weight for group in state.optimiser.param_groups for weight in group["params"]]
        nn.utils.clip_grad_norm_(weights, self._recipe.recipe.loop.clip)
        state.optimiser.step()
        state.schedule.step()
        if state.average is not None:
            state.average.update_parameters(state.network)
        return float(loss.detach()), spread_of_distances(outputs[state.objective.taps[0]])


def _train_only_what_leads_to(network: RetrievalNetwork, taps: list[Tap]) -> None:
    trained = {name for tap in taps for name in tensors_to(network, tap)}
    for name, weight in network.named_parameters():
        weight.requires_grad_(name in trained)


def _optimiser(network: RetrievalNetwork, objective: Objective, loop: LoopRecipe) -> AdamW:
    """Weight decay on the network's matrices and filters alone; the objective's weights at their own rate."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    groups = [
        {"params": [w for w in weights if w.ndim > 1], "lr": loop.rate, "weight_decay": loop.weight_decay},
        {"params": [w for w in weights if w.ndim <= 1], "lr": loop.rate, "weight_decay": 0.0},
        *(
            {"params": own, "lr": loop.rate * (loop.class_rate if factor is None else factor), "weight_decay": 0.0}
            for own, factor in objective.own_weights()
        ),
    ]
    # Gradients made before the first step lie together; made during it, they would split the heap for good.
    for weight in [*weights, *objective.parameters()]:
        weight.grad = torch.zeros_like(weight)
    return AdamW([group for group in groups if group["params"]], betas=loop.betas)


def _freeze_batch_norm(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def _moving_average(decay: float) -> Callable[[_Tensors, _Tensors, Tensor | int], None]:
    """An exponential average whose decay rises to its value, so that the start does not linger."""

    @torch.no_grad()
    def update(averaged: _Tensors, current: _Tensors, count: Tensor | int) -> None:
        effective = min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averaged, current, 1 - effective)

    return update
