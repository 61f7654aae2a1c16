"""The training itself: one step after the other. All that a step changes is in TrainingState."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from lookalike_model.network import RetrievalNetwork, tensors_to
from lookalike_model.profile import Tap
from lookalike_trainer.training.batches import Batch, Batches, TrainingData
from lookalike_trainer.training.in_parts import gradients_in_parts
from lookalike_trainer.training.interruption import Interruption
from lookalike_trainer.training.objectives import Objective
from lookalike_trainer.training.optimisation import make_optimiser, make_schedule
from lookalike_trainer.training.ranks import ALONE, Ranks
from lookalike_trainer.training.recompute import batch_norms, recompute_all_blocks, recompute_early_blocks, without_new_statistics
from lookalike_trainer.training.resolve import ResolvedRecipe
from lookalike_trainer.training.sampler import stream_key
from lookalike_trainer.training.state import TrainingState
from lookalike_trainer.training.synced_norm import sync_batch_norms
from lookalike_trainer.training.watchdog import Watchdog, margin_of, spread_of_distances

OnStep = Callable[[int, int], None]
_Tensors = tuple[Tensor, ...] | list[Tensor]
_MEMORY_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


class Trainer:
    """Runs epochs of a resolved recipe.

    Args:
        ahead: whether a thread makes the next batch.
    """

    def __init__(self, recipe: ResolvedRecipe, data: TrainingData, stop: Interruption, ranks: Ranks = ALONE, *, ahead: bool = True) -> None:
        self.recipe = recipe
        self._data = data
        self._stop = stop
        self._ranks = ranks
        self._device = torch.device(recipe.device)
        self._format = _MEMORY_FORMATS[recipe.memory_format]
        self._batches = Batches(recipe, data, ranks, ahead=ahead)
        self.epochs = recipe.epochs
        self.batch_size = data.sampler.batch_size
        self.steps_per_epoch = data.sampler.batches_per_epoch
        self.steps = recipe.epochs * self.steps_per_epoch

    def begin(self, network: RetrievalNetwork) -> TrainingState:
        """The state before the first step.

        Raises:
            JobError: INVALID_RECIPE, for an optimiser, a schedule or recomputing that cannot be had.
        """
        loop = self.recipe.recipe.loop
        network.to(self._device).to(memory_format=self._format)
        objective = Objective(self.recipe.recipe.objective, network, len(self._data.sampler.rows), self.recipe.seed).to(self._device)
        _train_only_what_leads_to(network, objective.taps)
        optimiser = make_optimiser(network, objective, loop)
        schedule = make_schedule(optimiser, loop, self.steps, self.steps_per_epoch)
        average = AveragedModel(network, multi_avg_fn=_moving_average(loop.ema)) if loop.ema else None
        if self._ranks.size > 1 and loop.batch_norm == "live":
            sync_batch_norms(network, self._ranks)
        if loop.recompute == "early":
            recompute_early_blocks(network.backbone)
        elif loop.recompute == "all":
            recompute_all_blocks(network.backbone)
        quiet = round(loop.warm_up * self.steps) + self.steps_per_epoch
        watchdog = Watchdog(quiet, loop.clip, margin_of(self.recipe.recipe.objective))
        return TrainingState(network, objective, optimiser, schedule, average, watchdog)

    def run_epoch(self, state: TrainingState, on_step: OnStep) -> None:
        """The steps that the epoch under way still lacks.

        Args:
            on_step: called with (steps done, steps in all) after each.

        Raises:
            JobError: the training has gone wrong; the step that showed it was not taken.
            torch.OutOfMemoryError: the device has too little memory; the step was not taken, or not whole.
            Cancelled: the job was told to stop; the state is that between two steps.
            PartedError: another rank is gone; the step was not taken, or not whole.
        """
        state.network.train()
        if self.recipe.recipe.loop.batch_norm == "frozen":
            for norm in batch_norms(state.network):
                norm.eval()
        if state.step == 0:
            state.so_far.rate = float(state.schedule.get_last_lr()[0])
        started = time.monotonic()
        for batch in self._batches.of_epoch(state.epoch, state.step):
            self._ranks.from_first(self._stop.check)
            loss, spread = self._step(state, batch)
            now = time.monotonic()
            so_far = state.so_far
            so_far.losses.append(loss)
            so_far.spreads.append(spread)
            so_far.pictures += len(batch.labels)
            so_far.seconds += now - started
            started = now
            state.step += 1
            on_step(batch.step + 1, self.steps)

    def _step(self, state: TrainingState, batch: Batch) -> tuple[float, float]:
        loop = self.recipe.recipe.loop
        state.optimiser.zero_grad(set_to_none=False)
        loss, features = self._gradients(state, batch)
        weights = [weight for group in state.optimiser.param_groups for weight in group["params"]]
        norm = nn.utils.clip_grad_norm_(weights, loop.clip)
        value, length, spread = self._ranks.from_first(lambda: (float(loss), float(norm), spread_of_distances(features)))
        state.watchdog.check(batch.step, value, length, spread)
        state.optimiser.step()
        state.schedule.step()
        if state.average is not None:
            state.average.update_parameters(state.network)
        return value, spread

    def _gradients(self, state: TrainingState, batch: Batch) -> tuple[Tensor, Tensor]:
        """The whole batch's loss and features of a tap, both detached; its gradients are with the weights."""
        network, objective, ranks = state.network, state.objective, self._ranks

        def forward(images: Tensor, part: int) -> dict[Tap, Tensor]:
            return self._forward(network, images, batch.step, part * ranks.size + ranks.rank)

        def loss_of(own: dict[Tap, Tensor], labels: Tensor) -> Tensor:
            loss: Tensor = objective({tap: ranks.gather(own[tap], len(labels)) for tap in objective.taps}, labels)
            return loss

        def backward(differentiate: Callable[[], None]) -> None:
            # Blocks that are computed again must not learn a batch's statistics twice.
            with without_new_statistics(batch_norms(network) if self.recipe.recipe.loop.recompute == "all" else []):
                differentiate()

        with self._autocast():
            images, labels = objective.select(network, batch.pictures, batch.labels, ranks)
        if state.parts > 1:
            loss, outputs = gradients_in_parts(network, forward, backward, loss_of, images, labels, state.parts)
        else:
            outputs = forward(images, 0)
            loss = loss_of(outputs, labels)
            backward(loss.backward)
        ranks.sum_gradients(network.parameters())
        ranks.take_gradients_of_first(objective.parameters())
        return loss.detach(), ranks.gather(outputs[objective.taps[0]].detach(), len(labels))

    def _forward(self, network: RetrievalNetwork, images: Tensor, step: int, part: int = 0) -> dict[Tap, Tensor]:
        # Dropout and stochastic depth draw from here: the same at a step, whatever came before it in this process.
        torch.manual_seed(stream_key("step", self.recipe.seed, step, part) >> 65)
        with self._autocast():
            outputs: dict[Tap, Tensor] = network(network.normalise(images).contiguous(memory_format=self._format))
        return outputs

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16")


def _train_only_what_leads_to(network: RetrievalNetwork, taps: list[Tap]) -> None:
    trained = {name for tap in taps for name in tensors_to(network, tap)}
    for name, weight in network.named_parameters():
        weight.requires_grad_(name in trained)


def _moving_average(decay: float) -> Callable[[_Tensors, _Tensors, Tensor | int], None]:
    """An exponential average whose decay rises to its value, so that the start does not linger."""

    @torch.no_grad()
    def update(averaged: _Tensors, current: _Tensors, count: Tensor | int) -> None:
        effective = min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averaged, current, 1 - effective)

    return update
