"""The processes that train one network together, a device each, and what they tell one another.

All of them take the same course of steps. Of a batch each rank puts its own slice through the network; the features of all
are gathered, and each rank computes the loss of the whole batch alike. Only the first rank decides, measures and writes.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lookalike_trainer.training.errors import Cancelled, JobError

T = TypeVar("T")

# The others wait while the first one decodes pictures or evaluates; that one of them has died is seen at once.
_LONGEST_WAIT = timedelta(days=1)
_BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
_FIRST = 0


class PartedError(Exception):
    """The ranks have lost one another: they must be started again, from their last checkpoint."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """A process's place among the ranks. One alone hands everything back as it was given.

    Every method must be called on all ranks, in the same order.

    Attributes:
        rank: from 0.
        size: how many there are.

    Raises:
        PartedError: from any method, if another rank is gone.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that decides and writes."""
        return self.rank == _FIRST

    def slice_of(self, count: int) -> slice:
        """The rows that this rank takes of so many; lengths differ by 1 at most."""
        return _slice(count, self.rank, self.size)

    def gather(self, own: Tensor, count: int) -> Tensor:
        """The rows of all ranks, in order. The gradient flows into the own ones alone.

        Args:
            own: float [rows of `slice_of(count)`, width].

        Returns:
            float32 [count, width].
        """
        if self.size == 1:
            return own
        own = own.float()
        slices = [_slice(count, rank, self.size) for rank in range(self.size)]
        most = max(each.stop - each.start for each in slices)
        sent = own.new_zeros(most, *own.shape[1:])
        sent[: len(own)] = own.detach()
        received = [torch.empty_like(sent) for _ in slices]
        with _together():
            dist.all_gather(received, sent)
        rows = [theirs[: each.stop - each.start] for theirs, each in zip(received, slices, strict=True)]
        rows[self.rank] = own
        return torch.cat(rows)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over the ranks; the tensor given may be overwritten."""
        if self.size > 1:
            with _together():
                dist.all_reduce(tensor)
        return tensor

    def sum_gradients(self, weights: Iterable[nn.Parameter]) -> None:
        """Of weights that each rank has seen its own rows through: the gradients' sum is that of the whole batch."""
        if self.size > 1:
            _exchange(weights, dist.all_reduce)

    def take_gradients_of_first(self, weights: Iterable[nn.Parameter]) -> None:
        """Of weights that each rank has seen the whole batch through: so that rounding on a GPU makes no two copies of them."""
        if self.size > 1:
            _exchange(weights, lambda gradients: dist.broadcast(gradients, _FIRST))

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` gives on the first rank, on all; it is called there alone.

        Raises:
            JobError, Cancelled: on all ranks, if `make` raises it on the first.
        """
        if self.size == 1:
            return make()
        told: list[Any] = [None, None]
        if self.is_first:
            try:
                told = [make(), None]
            except (JobError, Cancelled) as error:
                told = [None, error]
        with _together():
            dist.broadcast_object_list(told, _FIRST, device=torch.device("cpu"))
        made, raised = told
        if raised is not None:
            raise raised
        return cast(T, made)

    def first_then_others(self, make: Callable[[], T]) -> T:
        """What `make` gives on each rank; on the first it is called before the others call it, who find what it has left.

        Raises:
            JobError, Cancelled: on all ranks, if `make` raises it on the first.
        """
        made: list[T] = []
        self.from_first(lambda: made.append(make()))
        return made[0] if made else make()

    def wait(self) -> None:
        """Until all ranks have come here."""
        if self.size > 1:
            self.sum(torch.zeros(1))


ALONE = Ranks()


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Find the other ranks, as torchrun's environment tells.

    Args:
        device: `cpu` or `cuda`.

    Raises:
        PartedError: they are not to be found.
    """
    with _together():
        dist.init_process_group(_BACKENDS[device], timeout=_LONGEST_WAIT)
    yield Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    dist.destroy_process_group()


def _slice(count: int, rank: int, size: int) -> slice:
    return slice(count * rank // size, count * (rank + 1) // size)


def _exchange(weights: Iterable[nn.Parameter], collective: Callable[[Tensor], Any]) -> None:
    """All gradients in one message."""
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    if not gradients:
        return
    message = torch.cat([gradient.reshape(-1) for gradient in gradients])
    with _together():
        collective(message)
    pieces = torch.split(message, [gradient.numel() for gradient in gradients])
    for gradient, received in zip(gradients, pieces, strict=True):
        gradient.copy_(received.view_as(gradient))


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise PartedError(f"the ranks have lost one another ({str(error).splitlines()[0]})") from error
