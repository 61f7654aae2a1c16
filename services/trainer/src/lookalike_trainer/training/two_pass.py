"""Mining in a batch that would not fit into memory with gradients.

First all P · K pictures go through the network without gradients, in chunks; of each class an anchor, a positive and a
negative are chosen; only those 3 · P are run again with gradients. From the 17th place of Kaggle's Google Landmark
Retrieval Challenge 2018.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from lookalike_model.network import RetrievalNetwork
from lookalike_trainer.training.objective_recipe import TripletRecipe
from lookalike_trainer.training.pictures import Pictures
from lookalike_trainer.training.ranks import ALONE, Ranks
from lookalike_trainer.training.sampler import stream_key
from lookalike_trainer.training.triplet import triplet_loss


class TwoPassTriplet(nn.Module):
    """Triplets that are chosen before the pass with gradients.

    Args:
        seed: what is chosen at random follows from it and from the number of batches so far.
    """

    def __init__(self, recipe: TripletRecipe, seed: int) -> None:
        super().__init__()
        self._loss = triplet_loss(recipe)
        self._tap = recipe.tap
        self._seed = seed
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def choose(self, network: RetrievalNetwork, pictures: Pictures, labels: Tensor, ranks: Ranks = ALONE) -> Tensor:
        """Rows to run with gradients, int64 [3 · anchors]: anchors, their positives, their negatives.

        All rows if there is no triplet among them; then there is no more than one picture a class, or one class.
        """
        count = self.get_buffer("batches").add_(1)
        random = np.random.Generator(np.random.Philox(key=stream_key("two-pass", self._seed, int(count))))
        own = torch.arange(len(pictures), device=pictures.pixels.device)[ranks.slice_of(len(pictures))]
        features = ranks.gather(_without_gradients(network, pictures, own, self._tap, len(set(labels.tolist()))), len(pictures))
        triplets = ranks.from_first(lambda: choose_triplets(features, labels, random))
        rows = torch.from_numpy(triplets.reshape(-1)) if triplets.size else torch.arange(len(labels))
        return rows.to(labels.device)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Float [3 · anchors, width] and int64 [3 · anchors], in the order of `choose` → a scalar; 0 without a triplet."""
        thirds = torch.arange(len(labels) // 3 * 3, device=labels.device).view(3, -1)
        anchors, positives, negatives = labels[thirds]
        kept = thirds[:, (anchors == positives) & (anchors != negatives)]
        loss: Tensor = self._loss(features, labels, tuple(kept))
        return loss


def choose_triplets(features: Tensor, labels: Tensor, random: np.random.Generator) -> NDArray[np.int64]:
    """For each class with two pictures, the rows of its first one, a positive and a negative.

    The negative is the nearest of another class. The positive is a random one of those farther than it, else the farthest.

    Args:
        features: float [n, width]; distances are between unit vectors.
        labels: int64 [n].

    Returns:
        int64 [3, anchors]: anchors in order of their rows, positives, negatives; [3, 0] if there is no triplet.
    """
    numbers = labels.cpu().numpy()
    first = np.sort(np.unique(numbers, return_index=True)[1])
    unit = normalize(features.float(), dim=1)
    distances = torch.cdist(unit[torch.from_numpy(first).to(unit.device)], unit).cpu().numpy()
    triplets = []
    for anchor, row in zip(first.tolist(), distances, strict=True):
        same = np.flatnonzero(numbers == numbers[anchor])
        others = np.flatnonzero(numbers != numbers[anchor])
        positives = same[same != anchor]
        if not len(positives) or not len(others):
            continue
        negative = others[row[others].argmin()]
        farther = positives[row[positives] > row[negative]]
        positive = random.choice(farther) if len(farther) else positives[row[positives].argmax()]
        triplets.append((anchor, positive, negative))
    return np.array(triplets, dtype=np.int64).reshape(-1, 3).T.copy()


def _without_gradients(network: RetrievalNetwork, pictures: Pictures, own: Tensor, tap: str, chunk: int) -> Tensor:
    """Float [n, width] at a tap, of int64 [n] rows.

    As in serving: batch norm's statistics are neither changed nor a batch's, nothing is dropped.
    """
    parts = []
    with torch.no_grad(), _in_evaluation(network):
        for rows in torch.split(own, chunk):
            images = pictures.some(rows).images()
            parts.append({**network(network.normalise(images))}[tap])
    return torch.cat(parts)


@contextmanager
def _in_evaluation(network: nn.Module) -> Iterator[None]:
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
