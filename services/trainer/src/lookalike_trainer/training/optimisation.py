"""The optimiser and the rate over the steps, ours or timm's by name."""

import difflib
from collections.abc import Callable
from typing import Any

import timm.optim
import timm.scheduler
import torch
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lookalike_model.network import RetrievalNetwork
from lookalike_trainer.training.errors import JobError, Reason
from lookalike_trainer.training.objectives import Objective
from lookalike_trainer.training.recipe import LoopRecipe
from lookalike_trainer.training.schedule import rate_factor, warm_up_factor

Group = dict[str, Any]
_optimisers: Any = timm.optim
_schedulers: Any = timm.scheduler


def make_optimiser(network: RetrievalNetwork, objective: Objective, loop: LoopRecipe) -> Optimizer:
    """Weight decay on the network's matrices and filters alone; the objective's weights at their own rate.

    Raises:
        JobError: INVALID_RECIPE, if timm has no such optimiser, or it does not take these options.
    """
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    groups = _even_groups(weights, loop) if loop.layer_decay == 1 else _layered_groups(network, loop)
    for own, factor in objective.own_weights():
        groups.append({"params": own, "lr": loop.rate * (loop.class_rate if factor is None else factor), "weight_decay": 0.0})
    # Gradients made before the first step lie together; made during it, they would split the heap for good.
    for weight in [*weights, *objective.parameters()]:
        weight.grad = torch.zeros_like(weight)
    groups = [group for group in groups if group["params"]]
    if loop.optimiser == "adamw" and not loop.optimiser_options:
        return AdamW(groups, betas=loop.betas)
    return _timms(groups, loop)


def make_schedule(optimiser: Optimizer, loop: LoopRecipe, steps: int, steps_per_epoch: int) -> LambdaLR:
    """The rate, step by step.

    Raises:
        JobError: INVALID_RECIPE, if the schedule does not take these options.
    """
    if loop.schedule == "cosine":
        return LambdaLR(optimiser, lambda step: rate_factor(step, steps, loop.warm_up))
    later = _constant if loop.schedule == "constant" else _timms_schedule(loop, steps, steps_per_epoch)
    return LambdaLR(optimiser, lambda step: warm_up_factor(step, steps, loop.warm_up) * later(step))


def slow_down(optimiser: Optimizer, schedule: LambdaLR, factor: float) -> None:
    """Multiply all rates, from the next step on, by a factor."""
    for group in optimiser.param_groups:
        group["lr"] *= factor
        group["initial_lr"] *= factor
    schedule.base_lrs = [rate * factor for rate in schedule.base_lrs]
    schedule._last_lr = [rate * factor for rate in schedule.get_last_lr()]


def _even_groups(weights: list[nn.Parameter], loop: LoopRecipe) -> list[Group]:
    return [
        {"params": [w for w in weights if w.ndim > 1], "lr": loop.rate, "weight_decay": loop.weight_decay},
        {"params": [w for w in weights if w.ndim <= 1], "lr": loop.rate, "weight_decay": 0.0},
    ]


def _layered_groups(network: RetrievalNetwork, loop: LoopRecipe) -> list[Group]:
    """timm's groups of the backbone's layers; what lies behind them learns at the whole rate."""
    layers = _optimisers.param_groups_layer_decay(network.backbone, weight_decay=loop.weight_decay, layer_decay=loop.layer_decay)
    groups = [{"params": layer["params"], "lr": loop.rate * layer["lr_scale"], "weight_decay": layer["weight_decay"]} for layer in layers]
    taken = {id(weight) for group in groups for weight in group["params"]}
    rest = [weight for weight in network.parameters() if weight.requires_grad and id(weight) not in taken]
    return groups + _even_groups(rest, loop)


def _timms(groups: list[Group], loop: LoopRecipe) -> Optimizer:
    known = _optimisers.list_optimizers()
    if loop.optimiser not in known:
        near = difflib.get_close_matches(loop.optimiser, known, n=1)
        hint = f"; nearest is `{near[0]}`" if near else ""
        raise JobError(Reason.INVALID_RECIPE, f"recipe key `loop.optimiser` got `{loop.optimiser}`, which timm does not have{hint}")
    options: dict[str, Any] = {"betas": loop.betas, **loop.optimiser_options}
    try:
        made: Optimizer = _optimisers.create_optimizer_v2(groups, opt=loop.optimiser, lr=loop.rate, **options)
    except (TypeError, ValueError, AssertionError, RuntimeError, ImportError) as error:
        raise JobError(Reason.INVALID_RECIPE, f"timm's optimiser `{loop.optimiser}` cannot be made: {error}") from error
    return made


def _constant(_step: int) -> float:
    return 1.0


def _timms_schedule(loop: LoopRecipe, steps: int, steps_per_epoch: int) -> Callable[[int], float]:
    """timm's schedules depend on nothing but the step; so they are asked for the rate of a weight whose rate is 1."""
    probe = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    counted: dict[str, Any] = {"num_epochs": steps // steps_per_epoch, "updates_per_epoch": steps_per_epoch, "step_on_epochs": False}
    try:
        scheduler, _ = _schedulers.create_scheduler_v2(probe, sched=loop.schedule, **loop.schedule_options, **counted)
    except (TypeError, ValueError, AssertionError) as error:
        raise JobError(Reason.INVALID_RECIPE, f"recipe key `loop.schedule_options`: timm's `{loop.schedule}`: {error}") from error

    def factor(step: int) -> float:
        scheduler.step_update(step)
        return float(probe.param_groups[0]["lr"])

    return factor
