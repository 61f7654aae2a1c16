"""Steps of small trainings, by one process or by several: `python rank_steps.py FILE` as one of the ranks that the environment names."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lookalike_model.network import RetrievalNetwork
from lookalike_model.spec import ChannelStatistics, EmbeddingSpec, NetworkSpec
from lookalike_trainer.training.batches import TrainingData
from lookalike_trainer.training.errors import Cancelled
from lookalike_trainer.training.interruption import Interruption
from lookalike_trainer.training.job import Start
from lookalike_trainer.training.loop import Trainer
from lookalike_trainer.training.pixels import PixelStore
from lookalike_trainer.training.ranks import Ranks, joined
from lookalike_trainer.training.recipe_files import load_recipe
from lookalike_trainer.training.recompute import batch_norms
from lookalike_trainer.training.resolve import PixelPlan, ResolvedRecipe
from lookalike_trainer.training.sampler import ClassBalancedSampler

CLASSES, EACH, SIZE = 5, 3, 32
LABELS = np.repeat(np.arange(CLASSES), EACH)
SPEC = NetworkSpec(architecture="test_efficientnet", embedding=EmbeddingSpec(size=16))
LOOP = '[loop]\noptimiser = "sgd"\nclip = 1e9\nrate = 0.1\nwarm_up = 0.0\n'
FROZEN = LOOP + 'batch_norm = "frozen"\n'
TRIPLET = '[objective.triplet]\ntap = "embedding"\n'


@dataclass(frozen=True, slots=True)
class Case:
    """A recipe, and in how many parts a batch goes through the network."""

    recipe: str
    parts: int = 1


CASES = {
    "cross-entropy": Case("[objective.cross_entropy]\n" + FROZEN),
    "two taps": Case('[objective.cross_entropy]\n[objective.triplet]\ntap = "embedding"\nmining = "semi_hard"\n' + FROZEN),
    "batch-hard triplets": Case(TRIPLET + 'mining = "batch_hard"\nmargin = "soft"\n' + FROZEN),
    "two-pass triplets": Case(TRIPLET + 'mining = "two_pass"\nmargin = "soft"\n' + FROZEN),
    "ArcFace": Case('[objective.metric_learning.it]\nloss = "ArcFaceLoss"\n' + FROZEN),
    "in parts": Case(TRIPLET + 'mining = "batch_hard"\nmargin = "soft"\n' + FROZEN, parts=2),
    "live batch norm": Case("[objective.cross_entropy]\n" + LOOP),
    "live batch norm, recomputed": Case("[objective.cross_entropy]\n" + LOOP + 'recompute = "all"\n'),
}


class OwnSliceAlone(Ranks):
    """Gathers, but lets no gradient through."""

    def gather(self, own: Tensor, count: int) -> Tensor:
        return super().gather(own.detach(), count).requires_grad_()


def first_steps(ranks: Ranks) -> dict[str, dict[str, Tensor]]:
    """By case, what `_first_step` gives."""
    return {name: _first_step(case, ranks) for name, case in CASES.items()}


def _first_step(case: Case, ranks: Ranks) -> dict[str, Tensor]:
    """Loss, gradients, weights and buffers after a step on the whole batch of 15 pictures."""
    trainer = trainer_of(case.recipe, ranks)
    state = trainer.begin(network())
    state.parts = case.parts
    losses: list[float] = []
    trainer.run_epoch(state, lambda _done, _total: losses.append(state.so_far.losses[-1]))
    own = list(state.objective.parameters())
    return {
        "loss": torch.tensor(losses),
        "gradient of the network": _flat(weight.grad for weight in state.network.parameters()),
        "gradient of the objective's weights": _flat(weight.grad for weight in own),
        "weights": _flat([*state.network.parameters(), *own]),
        "buffers": _flat(tensor for name, tensor in state.network.named_buffers() if not name.endswith("num_batches_tracked")),
    }


def _flat(tensors: Iterable[Tensor | None]) -> Tensor:
    return torch.cat([torch.zeros(0), *(tensor.detach().flatten() for tensor in tensors if tensor is not None)])


def network() -> RetrievalNetwork:
    """With the statistics of the pictures, without which a random network gives all of them the same vector."""
    torch.manual_seed(0)
    made = RetrievalNetwork(SPEC, ChannelStatistics(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
    for norm in batch_norms(made):
        norm.momentum = 1.0
    made.train()(made.to_input(torch.from_numpy(_pixels())))
    for norm in batch_norms(made):
        norm.momentum = 0.1
    return made


def _pixels() -> NDArray[np.uint8]:
    random = np.random.default_rng(0)
    colours = random.integers(40, 215, (CLASSES, 1, 1, 3))[LABELS]
    return (colours + random.integers(-40, 40, (len(LABELS), SIZE, SIZE, 3))).astype(np.uint8)


class Told(Interruption):
    """To stop, before the first step."""

    def check(self) -> None:
        raise Cancelled


def steps_of_stopped(ranks: Ranks) -> int:
    """Steps that this rank takes where the first one alone is told to stop; −1 if it does not stop."""
    trainer = trainer_of(CASES["cross-entropy"].recipe, ranks, Told() if ranks.is_first else Interruption())
    state = trainer.begin(network())
    try:
        trainer.run_epoch(state, lambda _done, _total: None)
    except Cancelled:
        return state.step
    return -1


def trainer_of(recipe: str, ranks: Ranks, stop: Interruption | None = None) -> Trainer:
    """Of one epoch of one step."""
    resolved = ResolvedRecipe(
        name="file",
        recipe=load_recipe(text=f'description = "test"\n{recipe}'),
        start=Start(kind="random", name=SPEC.architecture),
        seed=0,
        network=SPEC,
        pixels=PixelPlan(serving=SIZE, phases=(SIZE,)),
        classes_per_batch=CLASSES,
        pictures_per_class=EACH,
        epochs=1,
        device="cpu",
        devices=ranks.size,
        threads=1,
    )
    rows = {label: np.flatnonzero(label == LABELS) for label in range(CLASSES)}
    data = TrainingData(PixelStore({SIZE: _pixels()}, [], []), LABELS, ClassBalancedSampler(rows, CLASSES, EACH))
    return Trainer(resolved, data, stop or Interruption(), ranks)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined("cpu") as found:
        broken = OwnSliceAlone(found.rank, found.size)
        made = {
            "right": first_steps(found),
            "broken": _first_step(CASES["batch-hard triplets"], broken),
            "stopped": steps_of_stopped(found),
        }
        torch.save(made, Path(sys.argv[1]))
