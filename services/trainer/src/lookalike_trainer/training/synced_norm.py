"""Batch norm over the rows of all ranks, in training; torch has one for CUDA alone."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.functional import batch_norm
from torch.nn.modules.batchnorm import _BatchNorm

from lookalike_trainer.training.ranks import Ranks
from lookalike_trainer.training.recompute import batch_norms


def sync_batch_norms(network: nn.Module, ranks: Ranks) -> None:
    """Let the batch norms that are in training take their statistics over all ranks; names and shapes of the weights stay.

    Changes their forward in place, so copy the network before.
    """
    for norm in batch_norms(network):
        norm.forward = partial(  # type: ignore[method-assign]
            _forward, norm, norm.forward, ranks
        )


def _forward(norm: _BatchNorm, alone: Callable[[Tensor], Tensor], ranks: Ranks, inputs: Tensor) -> Tensor:
    """Float [n, channels, …] → the same."""
    if not norm.training:
        return alone(inputs)
    mean, variance, count = _statistics(inputs.detach(), ranks)
    _learn(norm, mean, variance, count)
    outputs: Tensor = _Normalisation.apply(inputs, norm.weight, norm.bias, mean, variance, count, norm.eps, ranks)
    if isinstance(norm, BatchNormAct2d):
        outputs = norm.act(norm.drop(outputs))
    return outputs


def _statistics(inputs: Tensor, ranks: Ranks) -> tuple[Tensor, Tensor, Tensor]:
    """Over all ranks: mean and biased variance, float32 [channels] each, and the number of values a channel, a scalar."""
    channels = inputs.shape[1]
    rows = inputs.numel() // channels
    if rows:
        variance, mean = torch.var_mean(inputs.float(), _all_but_channels(inputs), correction=0)
    else:
        variance, mean = inputs.new_zeros(2, channels, dtype=torch.float32)
    own = torch.cat([mean, variance, mean.new_tensor([rows])])
    means, variances, counts = torch.split(ranks.gather(own[None], ranks.size), [channels, channels, 1], dim=1)
    count = counts.sum()
    mean = (means * counts).sum(0) / count
    variance = ((variances + (means - mean) ** 2) * counts).sum(0) / count
    return mean, variance, count


@torch.no_grad()
def _learn(norm: _BatchNorm, mean: Tensor, variance: Tensor, count: Tensor) -> None:
    if norm.running_mean is None or norm.running_var is None or norm.momentum is None:
        return
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(variance * (count / (count - 1).clamp(min=1)), norm.momentum)


class _Normalisation(torch.autograd.Function):
    """(x − mean) / √(variance + ε) · weight + bias, with statistics that depend on the rows of all ranks.

    The gradients of weight and bias are those of the own rows.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        count: Tensor,
        eps: float,
        ranks: Ranks,
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight, mean, torch.rsqrt(variance + eps), count)
        ctx.ranks = ranks
        return batch_norm(inputs, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight, mean, scale, count = ctx.saved_tensors
        dims, shape = _all_but_channels(inputs), [1, -1] + [1] * (inputs.ndim - 2)
        gradient = gradients[0].float()
        unit = (inputs.float() - mean.view(shape)) * scale.view(shape)
        sums = torch.stack([gradient.sum(dims), (gradient * unit).sum(dims)])
        # Cloned, for the own sums are what weight and bias get.
        of_ones, of_units = (ctx.ranks.sum(sums.clone()) / count).view(2, *shape)
        steepness = scale if weight is None else scale * weight
        of_inputs = (gradient - of_ones - unit * of_units) * steepness.view(shape)
        own = (None, None) if weight is None else (sums[1], sums[0])
        return of_inputs.to(inputs.dtype), *own, None, None, None, None, None


def _all_but_channels(inputs: Tensor) -> list[int]:
    return [0, *range(2, inputs.ndim)]
