"""A batch's gradients where its graph does not fit into memory: the network sees it piece by piece, the objective whole."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from lookalike_model.profile import Tap
from lookalike_trainer.training.recompute import batch_norms, without_new_statistics

Outputs = dict[Tap, Tensor]


def gradients_in_parts(
    network: nn.Module,
    forward: Callable[[Tensor, int], Outputs],
    backward: Callable[[Callable[[], None]], None],
    objective: Callable[[Outputs, Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    parts: int,
) -> tuple[Tensor, Outputs]:
    """Add up the gradients of the whole batch's loss, and return the loss and the taps, for one more forward pass.

    After Gao et al. 2021, arXiv:2101.06983. The gradients are those of the whole batch for any objective, pairs across
    pieces included; but live batch norm takes each piece's statistics.

    Args:
        forward: (piece, its number) → taps; the same each time it is called.
        backward: does a backward pass through the network.
    """
    pieces = images.tensor_split(parts)
    with torch.no_grad(), without_new_statistics(batch_norms(network)):
        seen = [forward(piece, number) for number, piece in enumerate(pieces)]
    whole = {tap: torch.cat([outputs[tap] for outputs in seen]).float().requires_grad_() for tap in seen[0]}
    loss = objective(whole, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    wanted = {
        tap: torch.split(features.grad, [len(piece) for piece in pieces]) for tap, features in whole.items() if features.grad is not None
    }
    for number, piece in enumerate(pieces):
        outputs = forward(piece, number)
        taps = [outputs[tap] for tap in wanted]
        gradients = [wanted[tap][number].to(outputs[tap].dtype) for tap in wanted]
        backward(partial(torch.autograd.backward, taps, gradients))
    return loss.detach(), {tap: features.detach() for tap, features in whole.items()}
