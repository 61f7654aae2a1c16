"""Memory for time: the large tensors of a network's first blocks, or of all, are computed again in the backward pass.

The first blocks have the largest outputs and the least work. For efficientnet_lite0 at 96 px in batches of 128, live
memory falls from 1.8 to 1.0 GiB, for an eighth more time.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from lookalike_trainer.training.errors import JobError, Reason

_EARLY_REDUCTION = 4


def recompute_early_blocks(backbone: nn.Module) -> None:
    """Let a timm network forget what its blocks down to a quarter of the resolution computed inside.

    Changes the network's forward in place, so copy it before.
    """
    for block in _early_blocks(backbone):
        contexts = partial(_contexts, batch_norms(block))
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, context_fn=contexts)


def recompute_all_blocks(backbone: Any) -> None:
    """Let a timm network keep only what goes from block to block.

    The backward pass must run in `without_new_statistics`.

    Raises:
        JobError: INVALID_RECIPE, if timm cannot do so with this network.
    """
    try:
        backbone.set_grad_checkpointing(True)
    except (AttributeError, AssertionError) as error:
        name = type(backbone).__name__
        message = f"recipe key `loop.recompute` is `all`, which timm cannot do for {name}; take `early`"
        raise JobError(Reason.INVALID_RECIPE, message) from error


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """The batch norms of a network."""
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


def _early_blocks(backbone: nn.Module) -> list[nn.Module]:
    known = dict(backbone.named_modules())
    listed: Any = getattr(backbone, "feature_info", [])
    names = [stage["module"] for stage in listed if stage["reduction"] <= _EARLY_REDUCTION]
    stages = [known[name] for name in names if name in known]
    parts = [part for stage in stages for part in (stage if isinstance(stage, nn.Sequential) else [stage])]
    return [part for part in parts if any(part.children())]  # a lone activation may work in place


def _contexts(norms: list[_BatchNorm]) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Around the first computation, and around the second: batch norm takes a batch's statistics in once."""
    return nullcontext(), without_new_statistics(norms)


@contextmanager
def without_new_statistics(norms: list[_BatchNorm]) -> Iterator[None]:
    """Batch norms use a batch's statistics, but do not learn them."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
