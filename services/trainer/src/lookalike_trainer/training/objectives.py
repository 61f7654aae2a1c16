"""What is minimised: a weighted sum of parts, each on a tap of the network.

A new part is a module here, a section in `recipe.ObjectiveRecipe` and a line in `_build`.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, normalize

from lookalike_model.network import RetrievalNetwork
from lookalike_model.profile import Tap
from lookalike_trainer.training.recipe import (
    CrossEntropyRecipe,
    NormalisedSoftmaxRecipe,
    ObjectiveRecipe,
    PartRecipe,
    TripletRecipe,
)


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
    """Cross-entropy over an FC with an output a class."""

    def __init__(self, width: int, classes: int, recipe: CrossEntropyRecipe) -> None:
        super().__init__()
        self.fc = nn.Linear(width, classes)
        self._smoothing = recipe.smoothing

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Float [n, width] and int64 [n] → a scalar."""
        return cross_entropy(self.fc(features), labels, label_smoothing=self._smoothing)


class BatchHardTriplet(nn.Module):
    """Hinge over each anchor's farthest positive and nearest negative in the batch, on unit vectors."""

    def __init__(self, recipe: TripletRecipe) -> None:
        super().__init__()
        # Brings scikit-learn and scipy along: 60 MiB that other objectives do without.
        from pytorch_metric_learning.distances import LpDistance
        from pytorch_metric_learning.losses import TripletMarginLoss
        from pytorch_metric_learning.miners import BatchHardMiner

        distance = LpDistance(normalize_embeddings=True)
        self._mine = BatchHardMiner(distance=distance)
        self._loss = TripletMarginLoss(margin=recipe.margin, distance=distance)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Float [n, width] and int64 [n] → a scalar; 0 for a batch without a positive pair."""
        loss: Tensor = self._loss(features, labels, self._mine(features, labels))
        return loss


class Objective(nn.Module):
    """The sum of a recipe's parts.

    Args:
        network: whose taps the parts are put on.
        classes: that are trained on.
    """

    def __init__(self, recipe: ObjectiveRecipe, network: RetrievalNetwork, classes: int) -> None:
        super().__init__()
        self.parts = nn.ModuleDict()
        self._placed: dict[str, tuple[Tap, float]] = {}
        for name, part in recipe.parts().items():
            self.parts[name] = _build(part, network.width(part.tap), classes)
            self._placed[name] = (part.tap, part.weight)

    @property
    def taps(self) -> list[Tap]:
        """The taps that are trained, each once."""
        return list(dict.fromkeys(tap for tap, _ in self._placed.values()))

    def forward(self, outputs: dict[Tap, Tensor], labels: Tensor) -> Tensor:
        """A network's taps and int64 [n] class indices → the loss, a scalar."""
        losses = [weight * self.parts[name](outputs[tap].float(), labels) for name, (tap, weight) in self._placed.items()]
        return torch.stack(losses).sum()


def _build(part: PartRecipe, width: int, classes: int) -> nn.Module:
    match part:
        case NormalisedSoftmaxRecipe():
            return NormalisedSoftmax(width, classes, part)
        case CrossEntropyRecipe():
            return CrossEntropy(width, classes, part)
        case TripletRecipe():
            return BatchHardTriplet(part)
