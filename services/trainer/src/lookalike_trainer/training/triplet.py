"""Triplets of anchor, positive and negative; losses and miners are pytorch-metric-learning's."""

from torch import Tensor, nn

from lookalike_trainer.training.objective_recipe import TripletRecipe


class Triplet(nn.Module):
    """Hinge or soft margin over triplets that are mined in the batch, on unit vectors; the mean of those above zero."""

    def __init__(self, recipe: TripletRecipe) -> None:
        super().__init__()
        from pytorch_metric_learning.miners import BatchHardMiner, TripletMarginMiner

        self._loss = triplet_loss(recipe)
        distance = self._loss.distance
        if recipe.mining == "semi_hard":
            self._mine: nn.Module = TripletMarginMiner(margin=recipe.margin, type_of_triplets="semihard", distance=distance)
        else:
            self._mine = BatchHardMiner(distance=distance)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Float [n, width] and int64 [n] → a scalar; 0 for a batch without a triplet."""
        loss: Tensor = self._loss(features, labels, self._mine(features, labels))
        return loss


def triplet_loss(recipe: TripletRecipe) -> nn.Module:
    """pytorch-metric-learning's loss for a margin: max(0, d(a, p) − d(a, n) + margin), or softplus(d(a, p) − d(a, n)) if it is soft."""
    # Brings scikit-learn and scipy along: 60 MiB that other objectives do without.
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.losses import TripletMarginLoss

    distance = LpDistance(normalize_embeddings=True)
    if recipe.margin == "soft":
        loss: nn.Module = TripletMarginLoss(margin=0.0, smooth_loss=True, distance=distance)
    else:
        loss = TripletMarginLoss(margin=recipe.margin, distance=distance)
    return loss
