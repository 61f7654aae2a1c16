"""The batches of an epoch, augmented; the next one is made while the device works on this one."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lookalike_trainer.training.augment import draw
from lookalike_trainer.training.pictures import Pictures
from lookalike_trainer.training.pixels import PixelStore
from lookalike_trainer.training.ranks import ALONE, Ranks
from lookalike_trainer.training.resolve import ResolvedRecipe
from lookalike_trainer.training.sampler import ClassBalancedSampler
from lookalike_trainer.training.schedule import phase_of


@dataclass(frozen=True)
class TrainingData:
    """What is trained on.

    Attributes:
        class_of_row: int64 [pictures in the store]: the class's number among those trained on, −1 for held-out rows.
    """

    store: PixelStore
    class_of_row: NDArray[np.int64]
    sampler: ClassBalancedSampler


@dataclass(frozen=True)
class Batch:
    """Labels are the classes' numbers; pictures and they lie on the device. `step` counts over the whole training.

    Labels are those of the whole batch. So are the pictures where the objective selects some; else they are this rank's.
    """

    step: int
    pictures: Pictures
    labels: Tensor


class Batches:
    """The batches of each epoch: the same for a seed, whatever is asked for in which order, and made ahead or not.

    Args:
        ahead: whether a thread makes the next batch.
    """

    def __init__(self, recipe: ResolvedRecipe, data: TrainingData, ranks: Ranks = ALONE, *, ahead: bool = True) -> None:
        self._recipe = recipe
        self._data = data
        self._ranks = ranks
        self._ahead = ahead
        self._steps = recipe.epochs * data.sampler.batches_per_epoch

    def of_epoch(self, epoch: int, done: int = 0) -> Iterator[Batch]:
        """The batches of an epoch but for the first `done`."""
        rows = self._data.sampler.epoch(self._recipe.seed, epoch)
        indices = range(done, len(rows))
        if not self._ahead:
            for index in indices:
                yield self._make(epoch, index, rows[index])
            return
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
            coming = [thread.submit(self._make, epoch, index, rows[index]) for index in indices[:1]]
            for index in indices:
                batch = coming.pop().result()
                if index + 1 < len(rows):
                    coming.append(thread.submit(self._make, epoch, index + 1, rows[index + 1]))
                yield batch

    def _make(self, epoch: int, index: int, rows: NDArray[np.int64]) -> Batch:
        recipe, seed, device = self._recipe.recipe, self._recipe.seed, torch.device(self._recipe.device)
        sampler = self._data.sampler
        step = epoch * sampler.batches_per_epoch + index
        size = self._recipe.pixels.phases[phase_of(step, self._steps, recipe.loop)]
        taken = slice(0, len(rows)) if recipe.objective.selects else self._ranks.slice_of(len(rows))
        pixels = torch.from_numpy(self._data.store.rows(size, rows[taken]))
        labels = torch.from_numpy(self._data.class_of_row[rows])
        draws = draw(seed, epoch, index * sampler.batch_size + taken.start, len(pixels))
        pictures = Pictures(_sent(pixels, device), draws, recipe.augment)
        return Batch(step, pictures if recipe.objective.selects else pictures.changed(), _sent(labels, device))


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """From pinned memory a copy to a GPU does not wait for what it works on."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
