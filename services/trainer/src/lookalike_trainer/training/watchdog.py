"""Sees that a training has gone wrong, and says what to try. The rules stand in docs/training.md."""

import math
from collections import deque
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lookalike_trainer.training.errors import JobError, Reason
from lookalike_trainer.training.objective_recipe import ObjectiveRecipe, TripletRecipe

_WINDOW = 20
_ALIKE = 2e-3
_SHRUNK = 0.05
_EXPLODED = 1000.0
_MARGIN_WINDOW = 50
_NEAR_MARGIN = 0.02
_TRY_LESS = "try a smaller `loop.rate` (a tenth)"


def spread_of_distances(features: Tensor) -> float:
    """Standard deviation of the cosine distances between all pairs of rows; float [n, width], n ≥ 2."""
    unit = normalize(features.detach().float(), dim=1)
    distances = 1 - unit @ unit.T
    above = torch.triu_indices(len(unit), len(unit), offset=1, device=unit.device)
    return float(distances[above[0], above[1]].std(correction=0))


def margin_of(objective: ObjectiveRecipe) -> float | None:
    """The loss of a network that gives every picture the same vector, where there are only triplets; else None."""
    parts = objective.parts().values()
    margins = [part.weight * _loss_of_alike(part) for part in parts if isinstance(part, TripletRecipe)]
    return sum(margins) if len(margins) == len(parts) else None


def _loss_of_alike(part: TripletRecipe) -> float:
    return math.log(2) if part.margin == "soft" else part.margin


class Watchdog:
    """Looks at each step before its gradients are used.

    Args:
        quiet_steps: at the start, in which a spread near nothing is no alarm (random weights begin so).
        clip: the norm that gradients are clipped to.
        margin: that a loss of triplets alone stays at if nothing is learnt; None for other losses.
    """

    def __init__(self, quiet_steps: int, clip: float = 1.0, margin: float | None = None) -> None:
        self._quiet_steps = max(quiet_steps, _WINDOW)
        self._clip = clip
        self._margin = margin
        self._left_margin = False
        self._first_losses: list[float] = []
        self._first_norms: list[float] = []
        self._widest = 0.0
        self._losses: deque[float] = deque(maxlen=_MARGIN_WINDOW)
        self._norms: deque[float] = deque(maxlen=_WINDOW)
        self._spreads: deque[float] = deque(maxlen=_WINDOW)

    def check(self, step: int, loss: float, norm: float, spread: float) -> None:
        """Raise JobError if the training has gone wrong.

        Args:
            norm: of the gradient, before it is clipped.
            spread: of the distances in the batch.
        """
        _check_finite(step, loss, norm)
        self._note(loss, norm, spread)
        if len(self._first_losses) == _WINDOW and len(self._norms) == _WINDOW:
            self._check_rate(step)
        if step >= self._quiet_steps and len(self._spreads) == _WINDOW:
            self._check_spread(step)
            self._check_margin(step)

    def state_dict(self) -> dict[str, Any]:
        """What it has seen."""
        return {
            "left_margin": self._left_margin,
            "first_losses": list(self._first_losses),
            "first_norms": list(self._first_norms),
            "widest": self._widest,
            "losses": list(self._losses),
            "norms": list(self._norms),
            "spreads": list(self._spreads),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._left_margin = bool(state["left_margin"])
        self._first_losses, self._first_norms = list(state["first_losses"]), list(state["first_norms"])
        self._widest = float(state["widest"])
        for name, kept in (("losses", self._losses), ("norms", self._norms), ("spreads", self._spreads)):
            kept.clear()
            kept.extend(state[name])

    def _note(self, loss: float, norm: float, spread: float) -> None:
        if len(self._first_losses) < _WINDOW:
            self._first_losses.append(loss)
            self._first_norms.append(norm)
        self._losses.append(loss)
        self._norms.append(norm)
        self._spreads.append(spread)
        if len(self._spreads) == _WINDOW:
            self._widest = max(self._widest, median(self._spreads))
        if self._margin is not None and len(self._losses) == _MARGIN_WINDOW:
            self._left_margin |= abs(median(self._losses) - self._margin) > _NEAR_MARGIN * self._margin

    def _check_rate(self, step: int) -> None:
        start, now = median(self._first_losses), median(list(self._losses)[-_WINDOW:])
        if now > max(2 * start, start + 1):
            raise JobError(
                Reason.RATE_TOO_HIGH,
                f"the loss rose from {start:.3g} to {now:.3g} by step {step + 1}: the rate is too high; {_TRY_LESS}",
            )
        usual, norm = max(median(self._first_norms), self._clip), median(self._norms)
        if norm > _EXPLODED * usual:
            raise JobError(
                Reason.RATE_TOO_HIGH,
                f"the gradient's norm rose to {norm:.1e} by step {step + 1}, over {_EXPLODED:g} times what is usual: the rate is too "
                f"high; {_TRY_LESS}",
            )

    def _check_spread(self, step: int) -> None:
        spread = median(self._spreads)
        if spread < _ALIKE:
            how = f"all distances have become alike (spread {spread:.1e} at step {step + 1})"
        elif spread < _SHRUNK * self._widest:
            how = f"the spread of distances falls towards nothing (from {self._widest:.2g} to {spread:.1e} at step {step + 1})"
        else:
            return
        raise JobError(
            Reason.COLLAPSED,
            f"{how}: the network gives every picture the same vector. Start from the bundle of a classification job, or try a smaller "
            "`loop.rate`",
        )

    def _check_margin(self, step: int) -> None:
        if self._margin is None or self._left_margin or len(self._losses) < _MARGIN_WINDOW or step < 2 * self._quiet_steps:
            return
        raise JobError(
            Reason.STUCK_AT_MARGIN,
            f"the loss never left the margin ({median(self._losses):.3g} at step {step + 1}, the margin makes {self._margin:.3g}): nothing "
            "is learnt. Start from the bundle of a classification job, or add a classification to the objective",
        )


def _check_finite(step: int, loss: float, norm: float) -> None:
    if math.isfinite(loss) and math.isfinite(norm):
        return
    what = f"the loss became {loss}" if not math.isfinite(loss) else f"the gradient became {norm}"
    raise JobError(
        Reason.NON_FINITE_LOSS,
        f"{what} at step {step + 1}; {_TRY_LESS}, or `loop.batch_norm=live` if it is frozen",
    )
