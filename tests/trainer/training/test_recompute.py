"""Recomputing the first blocks changes memory, not results."""

import copy
from typing import Any

import pytest
import timm
import torch

from lookalike_trainer.training.recompute import recompute_early_blocks


@pytest.mark.parametrize("architecture", ["test_efficientnet", "test_resnet", "test_vit"])
def test_gradients_and_statistics_are_those_of_a_plain_network(architecture: str) -> None:
    torch.manual_seed(0)
    plain: Any = timm.create_model(architecture, num_classes=0).train()
    changed = copy.deepcopy(plain)
    recompute_early_blocks(changed)
    side = plain.default_cfg["input_size"][1]
    images = torch.randn(4, 3, side, side)
    for network in (plain, changed):
        for _ in range(2):
            network(images).pow(2).sum().backward()
    for (name, one), other in zip(plain.named_parameters(), changed.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=name)
    for (name, one), other in zip(plain.named_buffers(), changed.buffers(), strict=True):
        if one.is_floating_point():
            torch.testing.assert_close(one, other, msg=name)


def test_less_is_kept_for_the_backward_pass() -> None:
    def kept(network: torch.nn.Module) -> int:
        sizes: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            kept_alive = network(torch.randn(8, 3, 96, 96))
        del kept_alive
        return sum(sizes.values())

    plain = timm.create_model("test_efficientnet", num_classes=0).train()
    changed = copy.deepcopy(plain)
    recompute_early_blocks(changed)
    assert kept(changed) < 0.8 * kept(plain)
