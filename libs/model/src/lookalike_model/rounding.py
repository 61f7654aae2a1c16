"""Weights that are rounded to bf16 once, and not by autocast at each batch, which gives the same vectors."""

from collections.abc import Iterator

import torch
from torch import nn

# By type and not by subclass: some of those compute their weights from others in fp32.
_ROUNDED = {nn.Conv2d, nn.Linear}
_EXACT = "_exact_weights"


def round_weights(network: nn.Module) -> None:
    """Round the weights of convolutions and FCs to bf16; the exact ones are kept for `restore_weights`."""
    for layer in _layers(network):
        if _EXACT not in layer.__dict__:
            exact = dict(layer.named_parameters(recurse=False))
            layer.__dict__[_EXACT] = exact
            for name, weight in exact.items():
                setattr(layer, name, nn.Parameter(weight.detach().to(torch.bfloat16), requires_grad=False))


def restore_weights(network: nn.Module) -> None:
    """Put the exact weights back in their places."""
    for layer in _layers(network):
        for name, weight in layer.__dict__.pop(_EXACT, {}).items():
            setattr(layer, name, weight)


def forget_exact_weights(network: nn.Module) -> None:
    """Free the exact weights of layers that are rounded: they stay so."""
    for layer in _layers(network):
        layer.__dict__.pop(_EXACT, None)


def _layers(network: nn.Module) -> Iterator[nn.Module]:
    return (layer for layer in network.modules() if type(layer) in _ROUNDED)
