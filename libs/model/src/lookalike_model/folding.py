"""Batch norms that are part of the convolutions before them: the same vectors in fewer passes over the activations."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lookalike_model.network import RetrievalNetwork

# Largest 1 − cosine to what the network gave before: rounding in fp32 stays far below.
_TOLERANCE = 1e-6
_PICTURES = 2


@torch.no_grad()
def folded(network: RetrievalNetwork, size: int) -> RetrievalNetwork:
    """A copy for inference, on the CPU, whose batch norms are folded into the convolutions before them.

    Which these are is seen by watching pictures pass. Where that gives other vectors, as it may if something else takes a
    convolution's output too, the copy is unchanged.

    Args:
        size: side of the pictures that are watched, in pixels.
    """
    made = copy.deepcopy(network).eval()
    noise = torch.randint(0, 256, (_PICTURES, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = made.to_input(noise)
    watch = _Watch(made)
    expected = made(images)
    watch.end()
    for convolution, norm in watch.pairs():
        _fold(made, convolution, norm)
    given = made(images)
    same = all(bool((1 - cosine_similarity(given[tap], expected[tap]) <= _TOLERANCE).all()) for tap in expected)
    return made if same else copy.deepcopy(network).eval()


class _Watch:
    """Notes which batch norm gets which convolution's output, by the names of the two in the network."""

    def __init__(self, network: nn.Module) -> None:
        self._made: list[tuple[str, Tensor]] = []
        self._taken: list[tuple[str, Tensor]] = []
        self._hooks = []
        for name, layer in network.named_modules():
            if isinstance(layer, nn.Conv2d):
                self._hooks.append(layer.register_forward_hook(lambda _l, _i, output, name=name: self._made.append((name, output))))
            elif isinstance(layer, nn.BatchNorm2d) and layer.track_running_stats:
                self._hooks.append(layer.register_forward_pre_hook(lambda _l, given, name=name: self._taken.append((name, given[0]))))

    def end(self) -> None:
        """Watch no longer."""
        for hook in self._hooks:
            hook.remove()

    def pairs(self) -> list[tuple[str, str]]:
        """Convolution and batch norm, of those that ran once."""
        made = {id(output): name for name, output in self._made}
        pairs = [(made[id(given)], name) for name, given in self._taken if id(given) in made]
        ran = [name for name, _ in self._made + self._taken]
        return [pair for pair in pairs if all(ran.count(name) == 1 for name in pair)]


def _fold(network: nn.Module, convolution: str, norm: str) -> None:
    before, after = network.get_submodule(convolution), network.get_submodule(norm)
    assert isinstance(before, nn.Conv2d)
    assert isinstance(after, nn.BatchNorm2d)
    network.set_submodule(convolution, fuse_conv_bn_eval(before, after))
    # timm's batch norms have the activation that follows in them.
    rest = [part for part in (getattr(after, "drop", None), getattr(after, "act", None)) if part is not None]
    network.set_submodule(norm, nn.Sequential(*rest))
