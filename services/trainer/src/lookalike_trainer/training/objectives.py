"""What is minimised: a weighted sum of parts, each on a tap of the network.

A new part is a module here, a section in `objective_recipe.ObjectiveRecipe` and a line in `_build`.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, normalize

from lookalike_model.network import RetrievalNetwork
from lookalike_model.profile import Tap
from lookalike_trainer.training.metric_learning import MetricLearning
from lookalike_trainer.training.objective_recipe import (
    CrossEntropyRecipe,
    MetricLearningRecipe,
    NormalisedSoftmaxRecipe,
    ObjectiveRecipe,
    PartRecipe,
    TripletRecipe,
)
from lookalike_trainer.training.pictures import Pictures
from lookalike_trainer.training.ranks import ALONE, Ranks
from lookalike_trainer.training.triplet import Triplet
from lookalike_trainer.training.two_pass import TwoPassTriplet


class NormalisedSoftmax(nn.Module):
    """Cross-entropy over cosine / temperature, one learnt vector a class (Zhai and Wu 2018, arXiv:1811.12649)."""

    def __init__(self, width: int, classes: int, recipe: NormalisedSoftmaxRecipe) -> None:
        super().__init__()
        self.vectors = nn.Parameter(normalize(torch.randn(classes, width), dim=1))
        self._temperature = recipe.temperature
        self._smoothing = recipe.smoothing

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Float [n, width] and int64 [n] → a scalar."""
        cosines = linear(normalize(features, dim=1), normalize(self.vectors, dim=1))
        return cross_entropy(cosines / self._temperature, labels, label_smoothing=self._smoothing)


class CrossEntropy(nn.Module):
    """Cross-entropy over an FC with an output a class; of use in training only, so no part of the bundle."""

    def __init__(self, width: int, classes: int, recipe: CrossEntropyRecipe) -> None:
        super().__init__()
        self.fc = nn.Linear(width, classes)
        self._smoothing = recipe.smoothing

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Float [n, width] and int64 [n] → a scalar."""
        return cross_entropy(self.fc(features), labels, label_smoothing=self._smoothing)


class Objective(nn.Module):
    """The sum of a recipe's parts.

    Args:
        network: whose taps the parts are put on.
        classes: that are trained on.
        seed: what is drawn at random follows from it.

    Raises:
        JobError: INVALID_RECIPE, if a part cannot be made of what the recipe says.
    """

    def __init__(self, recipe: ObjectiveRecipe, network: RetrievalNetwork, classes: int, seed: int = 0) -> None:
        super().__init__()
        self.parts = nn.ModuleDict()
        self._placed: dict[str, tuple[Tap, float]] = {}
        self._rates: dict[str, float | None] = {}
        for key, part in recipe.parts().items():
            name = key.replace(".", "_")
            self.parts[name] = _build(key, part, network.width(part.tap), classes, seed)
            self._placed[name] = (part.tap, part.weight)
            self._rates[name] = part.rate if isinstance(part, MetricLearningRecipe) else None

    @property
    def taps(self) -> list[Tap]:
        """The taps that are trained, each once."""
        return list(dict.fromkeys(tap for tap, _ in self._placed.values()))

    def own_weights(self) -> list[tuple[list[nn.Parameter], float | None]]:
        """The weights of each part that has any, and the factor of the learning rate that it asks for."""
        weights = [(list(part.parameters()), self._rates[name]) for name, part in self.parts.items()]
        return [(own, factor) for own, factor in weights if own]

    def select(self, network: RetrievalNetwork, pictures: Pictures, labels: Tensor, ranks: Ranks = ALONE) -> tuple[Tensor, Tensor]:
        """What is run with gradients: all of the batch, or what two-pass mining chooses of it.

        Args:
            pictures: of the whole batch where it is chosen from, else those of this rank.
            labels: int64 [n], of the whole batch.

        Returns:
            float [own rows of m, 3, s, s] in 0..255, and int64 [m].
        """
        for part in self.parts.values():
            if isinstance(part, TwoPassTriplet):
                rows = part.choose(network, pictures, labels, ranks)
                return pictures.some(rows[ranks.slice_of(len(rows))]).images(), labels[rows]
        return pictures.images(), labels

    def forward(self, outputs: dict[Tap, Tensor], labels: Tensor) -> Tensor:
        """A network's taps and int64 [n] class indices, of what `select` gave → the loss, a scalar."""
        losses = [weight * self.parts[name](outputs[tap].float(), labels) for name, (tap, weight) in self._placed.items()]
        return torch.stack(losses).sum()


def _build(key: str, part: PartRecipe, width: int, classes: int, seed: int) -> nn.Module:
    match part:
        case NormalisedSoftmaxRecipe():
            return NormalisedSoftmax(width, classes, part)
        case CrossEntropyRecipe():
            return CrossEntropy(width, classes, part)
        case TripletRecipe(mining="two_pass"):
            return TwoPassTriplet(part, seed)
        case TripletRecipe():
            return Triplet(part)
        case MetricLearningRecipe():
            return MetricLearning(key, width, classes, part, seed)
