"""The rate over the steps, the phases, and the alarms."""

import math

import pytest
import torch

from lookalike_trainer.training.errors import JobError, Reason
from lookalike_trainer.training.recipe import LoopRecipe, Phase
from lookalike_trainer.training.schedule import phase_of, rate_factor
from lookalike_trainer.training.watchdog import Watchdog, spread_of_distances


def test_the_rate_rises_then_falls_to_nothing() -> None:
    factors = [rate_factor(step, 200, 0.1) for step in range(200)]
    assert factors[0] == pytest.approx(1 / 20)
    assert factors[:20] == sorted(factors[:20])
    assert factors[20:] == sorted(factors[20:], reverse=True)
    assert max(factors) == pytest.approx(1)
    assert factors[-1] < 1e-3
    assert factors[110] == pytest.approx(0.5, abs=0.01)
    assert rate_factor(0, 1, 0.0) > 0


def test_phases_take_their_share_of_the_steps() -> None:
    recipe = LoopRecipe(phases=(Phase(scale=0.5, share=0.6), Phase(scale=1.0, share=0.4)))
    assert [phase_of(step, 10, recipe) for step in range(10)] == [0] * 6 + [1] * 4


def test_the_spread_is_the_deviation_of_the_distances() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    distances = [1.0, 0.0, 1.0]
    mean = sum(distances) / 3
    expected = math.sqrt(sum((d - mean) ** 2 for d in distances) / 3)
    assert spread_of_distances(features) == pytest.approx(expected)
    assert spread_of_distances(torch.ones(4, 3)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_training(loss: float) -> None:
    with pytest.raises(JobError, match=r"loop\.rate") as caught:
        Watchdog(0).check(3, loss, 1.0, 0.1)
    assert caught.value.reason is Reason.NON_FINITE_LOSS


def test_collapse_is_told_once_the_quiet_steps_are_over() -> None:
    watchdog = Watchdog(30)
    for step in range(30):
        watchdog.check(step, 0.2, 1.0, 1e-6)
    with pytest.raises(JobError, match="alike") as caught:
        watchdog.check(30, 0.2, 1.0, 1e-6)
    assert caught.value.reason is Reason.COLLAPSED


def test_a_single_narrow_batch_is_no_collapse() -> None:
    watchdog = Watchdog(0)
    for step in range(100):
        watchdog.check(step, 0.2, 1.0, 1e-6 if step % 3 == 0 else 0.2)
