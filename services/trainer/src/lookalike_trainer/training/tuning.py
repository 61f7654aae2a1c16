"""What is measured before the first step: how pixels lie in memory, with which precision and how many threads to compute.

On copies of the network and with random numbers of their own, so that nothing is changed by it. A choice departs from
the default only where that is clearly faster; and a short training takes the default: measuring takes about
thirty steps, and shall take no more than 2 % of them.
"""

import copy
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch

from lookalike_model.network import RetrievalNetwork
from lookalike_trainer.training.batches import TrainingData
from lookalike_trainer.training.interruption import Interruption
from lookalike_trainer.training.loop import Trainer
from lookalike_trainer.training.ranks import Ranks
from lookalike_trainer.training.resolve import ResolvedRecipe

FEWEST_STEPS = 1_500
_TIMED_STEPS = 3
_CLEARLY = {"cpu": 0.85, "cuda": 0.95}

SecondsOf = Callable[[ResolvedRecipe], float]


def choose_by_measuring(recipe: ResolvedRecipe, seconds_of: SecondsOf) -> tuple[ResolvedRecipe, str]:
    """Try what the recipe leaves open, one thing after the other; the recipe with the choices, and a sentence about them.

    Args:
        seconds_of: seconds a step takes with a recipe.
    """
    found = []
    for changes in _alternatives(recipe):
        other = recipe.model_copy(update=changes)
        usual, tried = seconds_of(recipe), seconds_of(other)
        usual = min(usual, seconds_of(recipe))  # whatever else the machine did meanwhile
        takes = tried < _CLEARLY[recipe.device] * usual
        (name, value), *_ = changes.items()
        found.append(f"{name} {value}: {tried:.3g} s a step against {usual:.3g} s, {'taken' if takes else 'not taken'}")
        recipe = other if takes else recipe
    return recipe, "; ".join(found)


def step_timer(network: RetrievalNetwork, data: TrainingData, stop: Interruption, ranks: Ranks) -> SecondsOf:
    """Times real steps of copies of a network that has not begun to train; all ranks get the first one's times."""

    def seconds_of(recipe: ResolvedRecipe) -> float:
        devices = [torch.device("cuda", torch.cuda.current_device())] if recipe.device == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.set_num_threads(recipe.threads)
            trainer = Trainer(recipe, data, stop, ranks)
            state = trainer.begin(copy.deepcopy(network))
            times = [time.monotonic()]

            def after_step(_done: int, _total: int) -> None:
                times.append(time.monotonic())
                if len(times) > _TIMED_STEPS + 1:
                    raise _Enough

            while len(times) <= _TIMED_STEPS + 1:
                try:
                    trainer.run_epoch(state, after_step)
                except _Enough:
                    break
                state.conclude_epoch({})
        # The first step also prepares.
        return ranks.from_first(lambda: min(later - earlier for earlier, later in pairwise(times[1:])))

    return seconds_of


class _Enough(Exception):
    pass


def _alternatives(recipe: ResolvedRecipe) -> list[dict[str, Any]]:
    loop = recipe.recipe.loop
    alternatives: list[dict[str, Any]] = []
    if loop.memory_format == "auto":
        alternatives.append({"memory_format": "contiguous"})
    if loop.precision == "auto" and _has_bf16(recipe.device):
        alternatives.append({"precision": "bf16"})
    if loop.threads == "auto" and recipe.threads >= 4 and recipe.device == "cpu":
        alternatives.append({"threads": recipe.threads // 2})
    return alternatives


def _has_bf16(device: str) -> bool:
    """Whether the device computes in bf16 itself; elsewhere it is slower and less exact."""
    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    known = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return any(ask() for ask in known if ask is not None)
