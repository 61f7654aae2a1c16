"""Stops a training that has gone wrong, and says what to try."""

import math
from collections import deque
from statistics import median

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lookalike_trainer.training.errors import JobError, Reason

_WINDOW = 20
_COLLAPSED = 2e-3


def spread_of_distances(features: Tensor) -> float:
    """Standard deviation of the cosine distances between all pairs of rows; float [n, width], n ≥ 2."""
    unit = normalize(features.detach().float(), dim=1)
    distances = 1 - unit @ unit.T
    above = torch.triu_indices(len(unit), len(unit), offset=1, device=unit.device)
    return float(distances[above[0], above[1]].std(correction=0))


class Watchdog:
    """Looks at each step.

    Args:
        quiet_steps: at the start, in which a spread near nothing is no alarm (random weights begin so).
    """

    def __init__(self, quiet_steps: int) -> None:
        self._quiet_steps = max(quiet_steps, _WINDOW)
        self._spreads: deque[float] = deque(maxlen=_WINDOW)

    def check(self, step: int, loss: float, spread: float) -> None:
        """Raise JobError if the loss is not finite, or all distances have become alike.

        Collapsed means: the median spread of the last 20 steps is below 0.002 once the quiet steps are over.
        """
        if not math.isfinite(loss):
            raise JobError(
                Reason.NON_FINITE_LOSS,
                f"the loss became {loss} at step {step + 1}; try a smaller `loop.rate` (a tenth), "
                "or `loop.batch_norm=live` if it is frozen",
            )
        self._spreads.append(spread)
        if step >= self._quiet_steps and median(self._spreads) < _COLLAPSED:
            raise JobError(
                Reason.COLLAPSED,
                f"all distances have become alike (spread {median(self._spreads):.1e} at step {step + 1}): the network "
                "gives every picture the same vector. Start from the bundle of a classification job, or try a smaller "
                "`loop.rate`",
            )
