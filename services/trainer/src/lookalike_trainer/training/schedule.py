"""The learning rate and the picture size over the steps."""

import math
from bisect import bisect_right
from itertools import accumulate

from lookalike_trainer.training.recipe import LoopRecipe


def rate_factor(step: int, steps: int, warm_up: float) -> float:
    """Linear from 0 to 1 over the warm-up's share of the steps, then half a cosine down to 0."""
    falling = max(0.0, step / steps - warm_up) / (1 - warm_up)
    return warm_up_factor(step, steps, warm_up) * 0.5 * (1 + math.cos(math.pi * falling))


def warm_up_factor(step: int, steps: int, warm_up: float) -> float:
    """Linear from 0 to 1 over the warm-up's share of the steps."""
    return min(1.0, (step + 1) / max(1.0, warm_up * steps))


def phase_of(step: int, steps: int, recipe: LoopRecipe) -> int:
    """Index of the phase that a step belongs to."""
    ends = [round(share * steps) for share in accumulate(phase.share for phase in recipe.phases)]
    return min(bisect_right(ends, step), len(ends) - 1)
