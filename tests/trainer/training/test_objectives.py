"""The parts of the objective, against plain loops."""

import math
from typing import Literal

import numpy as np
import pytest
import torch

from lookalike_model.network import RetrievalNetwork
from lookalike_model.spec import ChannelStatistics, EmbeddingSpec, NetworkSpec
from lookalike_trainer.training.objective_recipe import (
    CrossEntropyRecipe,
    NormalisedSoftmaxRecipe,
    ObjectiveRecipe,
    TripletRecipe,
)
from lookalike_trainer.training.objectives import CrossEntropy, NormalisedSoftmax, Objective
from lookalike_trainer.training.triplet import Triplet


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(9, 5, generator=generator), torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])


def smoothed_cross_entropy(scores: np.ndarray, label: int, smoothing: float) -> float:
    logs = scores - math.log(sum(math.exp(score) for score in scores))
    return float(-(1 - smoothing) * logs[label] - smoothing * logs.mean())


def test_normalised_softmax_is_cross_entropy_over_cosines(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    features, labels = batch
    part = NormalisedSoftmax(5, 3, NormalisedSoftmaxRecipe(temperature=0.2, smoothing=0.1))
    vectors = part.vectors.detach().numpy().astype(np.float64)
    expected = []
    for x, y in zip(features.numpy().astype(np.float64), labels.tolist(), strict=True):
        cosines = [x @ w / (np.linalg.norm(x) * np.linalg.norm(w)) for w in vectors]
        expected.append(smoothed_cross_entropy(np.array(cosines) / 0.2, y, 0.1))
    assert part(features, labels).item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_cross_entropy_is_over_its_fc(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    features, labels = batch
    part = CrossEntropy(5, 3, CrossEntropyRecipe(smoothing=0.2))
    scores = part.fc(features).detach().numpy().astype(np.float64)
    expected = [smoothed_cross_entropy(row, y, 0.2) for row, y in zip(scores, labels.tolist(), strict=True)]
    assert part(features, labels).item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_triplet_takes_the_hardest_of_the_batch(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    features, labels = batch
    unit = (features / features.norm(dim=1, keepdim=True)).numpy().astype(np.float64)
    losses = []
    for a in range(len(unit)):
        distance = [float(np.linalg.norm(unit[a] - unit[b])) for b in range(len(unit))]
        positives = [distance[b] for b in range(len(unit)) if labels[b] == labels[a] and b != a]
        negatives = [distance[b] for b in range(len(unit)) if labels[b] != labels[a]]
        losses.append(max(0.0, max(positives) - min(negatives) + 0.3))
    got = float(Triplet(TripletRecipe(margin=0.3))(features, labels))
    above = [loss for loss in losses if loss > 0]
    assert got == pytest.approx(np.mean(above), rel=1e-4)


def distances_of(features: torch.Tensor) -> np.ndarray:
    unit = (features / features.norm(dim=1, keepdim=True)).numpy().astype(np.float64)
    return np.array([[np.linalg.norm(a - b) for b in unit] for a in unit])


def test_a_soft_margin_is_the_softplus_of_the_difference(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    features, labels = batch
    losses = []
    for a, row in enumerate(distances_of(features)):
        farthest = max(d for b, d in enumerate(row) if labels[b] == labels[a] and b != a)
        nearest = min(d for b, d in enumerate(row) if labels[b] != labels[a])
        losses.append(math.log1p(math.exp(farthest - nearest)))
    assert float(Triplet(TripletRecipe(margin="soft"))(features, labels)) == pytest.approx(np.mean(losses), rel=1e-4)


def test_semi_hard_takes_negatives_between_the_positive_and_the_margin(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    features, labels = batch
    distance = distances_of(features)
    losses = [
        distance[a, p] - distance[a, n] + 0.3
        for a in range(len(labels))
        for p in range(len(labels))
        for n in range(len(labels))
        if labels[p] == labels[a] != labels[n] and p != a and 0 < distance[a, n] - distance[a, p] < 0.3
    ]
    assert losses
    assert float(Triplet(TripletRecipe(margin=0.3, mining="semi_hard"))(features, labels)) == pytest.approx(np.mean(losses), rel=1e-4)


@pytest.mark.parametrize(("tap", "leads_through"), [("embedding", True), ("pool", False)])
def test_the_class_fc_stands_in_series_or_on_a_branch_of_its_own(tap: Literal["pool", "embedding"], leads_through: bool) -> None:
    statistics = ChannelStatistics(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    network = RetrievalNetwork(NetworkSpec(architecture="test_efficientnet", embedding=EmbeddingSpec(size=6)), statistics)
    objective = Objective(ObjectiveRecipe(cross_entropy=CrossEntropyRecipe(tap=tap)), network, 3)
    assert objective.parts["cross_entropy"].fc.in_features == (6 if leads_through else network.pool_size)  # type: ignore[union-attr]
    objective(network(torch.randn(3, 3, 32, 32)), torch.tensor([0, 1, 2])).backward()
    assert all((weight.grad is not None) is leads_through for weight in network.embedding.parameters())  # type: ignore[union-attr]


def test_a_class_with_one_picture_is_no_anchor() -> None:
    features = torch.eye(3).requires_grad_()
    loss = Triplet(TripletRecipe())(features, torch.tensor([0, 1, 2]))
    assert loss.item() == 0
    loss.backward()


def test_the_objective_is_the_weighted_sum_on_the_taps_asked_for() -> None:
    torch.manual_seed(0)
    statistics = ChannelStatistics(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    spec = NetworkSpec(architecture="test_efficientnet", embedding=EmbeddingSpec(size=6))
    network = RetrievalNetwork(spec, statistics)
    recipe = ObjectiveRecipe(
        cross_entropy=CrossEntropyRecipe(weight=0.5),
        triplet=TripletRecipe(weight=2.0, tap="embedding"),
    )
    objective = Objective(recipe, network, 3)
    outputs = network(torch.randn(6, 3, 32, 32))
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    parts = objective.parts
    expected = 0.5 * parts["cross_entropy"](outputs["pool"], labels) + 2 * parts["triplet"](outputs["embedding"], labels)
    torch.testing.assert_close(objective(outputs, labels), expected)
    assert objective.taps == ["pool", "embedding"]
