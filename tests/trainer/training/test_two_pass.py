"""Two-pass mining: what it chooses, and that its gradient is the full graph's."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lookalike_model.network import RetrievalNetwork
from lookalike_model.spec import ChannelStatistics, EmbeddingSpec, NetworkSpec
from lookalike_trainer.training.augment import draw
from lookalike_trainer.training.in_parts import gradients_in_parts
from lookalike_trainer.training.objective_recipe import CrossEntropyRecipe, ObjectiveRecipe, TripletRecipe
from lookalike_trainer.training.objectives import Objective
from lookalike_trainer.training.pictures import Pictures
from lookalike_trainer.training.recipe import AugmentRecipe
from lookalike_trainer.training.two_pass import TwoPassTriplet, choose_triplets

STATISTICS = ChannelStatistics(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
TWO_PASS = TripletRecipe(tap="embedding", mining="two_pass", margin=0.2)


def network(architecture: str = "test_resnet", **arguments: Any) -> RetrievalNetwork:
    torch.manual_seed(0)
    return RetrievalNetwork(NetworkSpec(architecture=architecture, embedding=EmbeddingSpec(size=16), **arguments), STATISTICS)


def pictures(classes: int, each: int) -> tuple[Pictures, Tensor]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(classes).repeat_interleave(each)
    base = torch.randint(0, 156, (classes, 1, 1, 3), generator=generator).expand(-1, 32, 32, -1)[labels]
    noise = torch.randint(0, 100, (len(labels), 32, 32, 3), generator=generator)
    return Pictures((base + noise).to(torch.uint8), draw(0, 0, 0, len(labels)), AugmentRecipe()), labels


def frozen(net: RetrievalNetwork) -> RetrievalNetwork:
    """In training, but for batch norm."""
    net.train()
    for module in net.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    return net


def gradients(net: RetrievalNetwork, loss: Tensor) -> Tensor:
    net.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return torch.cat([p.grad.double().flatten() for p in net.parameters() if p.grad is not None])


@pytest.mark.parametrize("margin", [0.2, "soft"])
@pytest.mark.parametrize(
    "net",
    [
        pytest.param(lambda: network("test_resnet"), id="resnet"),
        pytest.param(lambda: network("test_efficientnet", pool="gem"), id="efficientnet-gem"),
        pytest.param(lambda: network("test_vit", pool="token", image_size=32), id="vit"),
    ],
)
def test_the_gradient_is_that_of_the_same_triplets_through_the_full_graph(net: Callable[[], RetrievalNetwork], margin: Any) -> None:
    batch, labels = pictures(8, 6)
    model = frozen(net())
    recipe = ObjectiveRecipe(triplet=TWO_PASS.model_copy(update={"margin": margin}))
    objective = Objective(recipe, model, 8, seed=3)
    images, chosen = objective.select(model, batch, labels)
    two_pass = gradients(model, objective(model(model.normalise(images)), chosen))

    rows = Objective(recipe, model, 8, seed=3).parts["triplet"].choose(model, batch, labels)  # type: ignore[operator]
    assert torch.equal(labels[rows], chosen)
    unit = torch.nn.functional.normalize(model(model.normalise(batch.images()))["embedding"], dim=1)
    near, far = ((unit[rows[:8]] - unit[part]).norm(dim=1) for part in (rows[8:16], rows[16:]))
    losses = torch.nn.functional.softplus(near - far) if margin == "soft" else (near - far + margin).clamp(min=0)
    full = gradients(model, losses.sum() / (losses > 0).sum())
    assert full.norm() > 0
    assert float((two_pass - full).norm() / full.norm()) <= 1e-5


def test_triplets_are_those_of_the_recipe_it_was_borrowed_from() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([4, 4, 4, 4, 1, 1, 1, 7, 2, 2])
    seen_random = False
    for trial in range(60):
        features = torch.randn(10, 3, generator=generator)
        anchors, positives, negatives = choose_triplets(features, labels, np.random.default_rng(trial))
        assert anchors.tolist() == [0, 4, 8]  # the first of each class with two pictures
        unit = (features / features.norm(dim=1, keepdim=True)).numpy().astype(np.float64)
        for a, p, n in zip(anchors, positives, negatives, strict=True):
            distance = [math.dist(unit[a], unit[b]) for b in range(10)]
            others = [b for b in range(10) if labels[b] != labels[a]]
            same = [b for b in range(10) if labels[b] == labels[a] and b != a]
            assert n == min(others, key=lambda b: distance[b])
            farther = [b for b in same if distance[b] > distance[n]]
            assert p in (farther or [max(same, key=lambda b: distance[b])])
            seen_random |= len(farther) > 1 and p != max(farther, key=lambda b: distance[b])
    assert seen_random


def test_choices_follow_from_the_seed_and_the_number_of_batches() -> None:
    batch, labels = pictures(6, 6)
    model = network()
    part, again, other = TwoPassTriplet(TWO_PASS, 1), TwoPassTriplet(TWO_PASS, 1), TwoPassTriplet(TWO_PASS, 2)
    first, second = (part.choose(model, batch, labels) for _ in range(2))
    assert torch.equal(again.choose(model, batch, labels), first)
    resumed = TwoPassTriplet(TWO_PASS, 1)
    resumed.load_state_dict(again.state_dict())
    assert torch.equal(resumed.choose(model, batch, labels), second)
    assert not torch.equal(first, second)
    assert not torch.equal(other.choose(model, batch, labels), first)


def test_the_pass_without_gradients_changes_nothing_and_sees_chunks() -> None:
    batch, labels = pictures(5, 4)
    model = network().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    sizes: list[int] = []
    model.register_forward_pre_hook(lambda _module, inputs: sizes.append(len(inputs[0])))
    TwoPassTriplet(TWO_PASS, 0).choose(model, batch, labels)
    assert sizes == [5, 5, 5, 5]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes


def test_a_picture_is_changed_in_the_same_way_in_both_passes() -> None:
    batch, _ = pictures(4, 3)
    rows = torch.tensor([7, 2, 2, 11])
    torch.testing.assert_close(batch.some(rows).images(), batch.images()[rows], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 0, 0, 0]])
def test_a_batch_without_a_triplet_has_no_loss(labels: list[int]) -> None:
    batch, _ = pictures(4, 1)
    model = network()
    objective = Objective(ObjectiveRecipe(triplet=TWO_PASS), model, 4)
    images, chosen = objective.select(model, batch, torch.tensor(labels))
    loss = objective(model(model.normalise(images)), chosen)
    assert loss.item() == 0
    loss.backward()


def test_other_parts_learn_from_the_pictures_that_were_chosen() -> None:
    batch, labels = pictures(6, 5)
    model = frozen(network())
    recipe = ObjectiveRecipe(triplet=TWO_PASS, cross_entropy=CrossEntropyRecipe(tap="embedding", weight=0.5))
    objective = Objective(recipe, model, 6)
    images, chosen = objective.select(model, batch, labels)
    assert len(images) == len(chosen) == 18
    outputs = model(model.normalise(images))
    parts = objective.parts
    expected = parts["triplet"](outputs["embedding"], chosen) + 0.5 * parts["cross_entropy"](outputs["embedding"], chosen)
    torch.testing.assert_close(objective(outputs, chosen), expected)


def test_the_borrowed_recipe_runs_a_third_of_each_batch_and_repeats_bitwise(
    work: Callable[[Path], int], job_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = {"sampler.classes": "6", "sampler.pictures": "4", "network.embedding.size": "8", "loop.rate": "1e-3"}
    sizes: set[int] = set()
    forward = Objective.forward

    def watched(self: Objective, outputs: Any, labels: Tensor) -> Tensor:
        sizes.add(len(labels))
        return forward(self, outputs, labels)

    monkeypatch.setattr(Objective, "forward", watched)
    folders = [job_folder(overrides, recipe="triplet-two-pass") for _ in range(2)]
    assert [work(folder) for folder in folders] == [0, 0]
    assert sizes == {18}
    first, second = ((folder / "bundle" / "model.safetensors").read_bytes() for folder in folders)
    assert first == second


def test_what_was_chosen_may_go_through_the_network_in_parts() -> None:
    batch, labels = pictures(8, 6)
    model = frozen(network())
    objective = Objective(ObjectiveRecipe(triplet=TWO_PASS), model, 8, seed=3)
    images, chosen = objective.select(model, batch, labels)
    whole = gradients(model, objective(model(model.normalise(images)), chosen))
    model.zero_grad()
    gradients_in_parts(model, lambda piece, _: model(model.normalise(piece)), lambda go: go(), objective, images, chosen, 3)
    parts = torch.cat([p.grad.double().flatten() for p in model.parameters() if p.grad is not None])
    assert (parts - whole).norm() <= 1e-5 * whole.norm()
