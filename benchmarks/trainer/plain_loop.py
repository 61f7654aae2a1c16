"""A training loop as one writes it with PyTorch alone: a DataLoader, forward, backward, the optimiser's step.

python -m benchmarks.trainer.plain_loop SETTING (JSON), which prints pictures a second. Network, objective, pictures, augmentation and
batches are those of a recipe of ours; what watches over a training, checkpoints and batches made ahead by a thread are not in it. It has
our worker's allocator and OpenMP settings, which alone make a third of the speed on a CPU.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import json
import sys
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lookalike_model.network import RetrievalNetwork
from lookalike_model.spec import NetworkSpec
from lookalike_model.timm_config import statistics_of
from lookalike_trainer.training.allocator import keep_freed_memory
from lookalike_trainer.training.augment import augment
from lookalike_trainer.training.objectives import Objective
from lookalike_trainer.training.recipe import AugmentRecipe, Recipe
from lookalike_trainer.training.recipe_files import load_recipe

_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
_DRAWS = 10


@dataclass(frozen=True, slots=True)
class Plain:
    """What a plain loop is run with.

    Attributes:
        pixels: file of uint8 [pictures, size, size, 3].
        size: pixels a side.
        classes: of as many pictures each; pictures lie class by class.
        batch: pictures.
        workers: processes of the DataLoader; 0 loads in the loop.
        steps: of a stretch.
        stretches: that are timed.
    """

    architecture: str
    pixels: str
    size: int
    classes: int
    pictures: int
    batch: int
    workers: int = 0
    threads: int = 1
    memory_format: str = "channels_last"
    precision: str = "fp32"
    device: str = "cpu"
    steps: int = 10
    stretches: int = 1


class AugmentedBatches(Dataset[tuple[Tensor, Tensor]]):
    """Whole batches, changed as a recipe says: a batch at once is faster than picture by picture."""

    def __init__(self, plain: Plain, recipe: AugmentRecipe) -> None:
        shape = (plain.classes * plain.pictures, plain.size, plain.size, 3)
        self._pixels = np.memmap(plain.pixels, dtype=np.uint8, mode="r", shape=shape)
        self._labels = torch.arange(plain.classes).repeat_interleave(plain.pictures)
        self._recipe = recipe
        self._on_device = torch.device(plain.device if plain.workers == 0 else "cpu")

    def __len__(self) -> int:
        return len(self._labels)

    def __getitems__(self, rows: list[int]) -> list[tuple[Tensor, Tensor]]:
        draws = np.random.default_rng(rows[0]).random((len(rows), _DRAWS), dtype=np.float32)
        pixels = torch.from_numpy(self._pixels[rows]).to(self._on_device)
        return [(augment(pixels, self._recipe, draws), self._labels[rows])]


def speed(plain: Plain) -> float:
    """Pictures a second in the fastest stretch."""
    torch.set_num_threads(plain.threads)
    torch.manual_seed(0)
    recipe, device = load_recipe(), torch.device(plain.device)
    network = RetrievalNetwork(NetworkSpec(architecture=plain.architecture), statistics_of(plain.architecture)).train()
    network.to(device).to(memory_format=_FORMATS[plain.memory_format])
    objective = Objective(recipe.objective, network, plain.classes).to(device)
    optimiser = torch.optim.AdamW([*network.parameters(), *objective.parameters()], lr=recipe.loop.rate)
    marks: list[float] = []
    last = plain.steps * plain.stretches
    while len(marks) <= last:
        for images, labels in _loader(plain, recipe):
            optimiser.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=plain.precision == "bf16"):
                given = images.to(device, non_blocking=True).contiguous(memory_format=_FORMATS[plain.memory_format])
                outputs = network(network.normalise(given))
            objective(outputs, labels.to(device, non_blocking=True)).backward()
            optimiser.step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            marks.append(time.monotonic())
            if len(marks) > last:
                break
    # The first step also prepares.
    stretches = [marks[start + plain.steps] - marks[start] for start in range(0, last, plain.steps)]
    return plain.steps * plain.batch / min(stretches)


def _loader(plain: Plain, recipe: Recipe) -> DataLoader[tuple[Tensor, Tensor]]:
    source = AugmentedBatches(plain, recipe.augment)
    order = np.random.default_rng(0).permutation(len(source))
    whole = len(order) // plain.batch * plain.batch
    batches = order[:whole].reshape(-1, plain.batch).tolist() * (plain.steps * plain.stretches + 1)
    pinned = plain.device == "cuda" and plain.workers > 0
    return DataLoader(source, batch_sampler=batches, collate_fn=lambda made: made[0], num_workers=plain.workers, pin_memory=pinned)


if __name__ == "__main__":
    keep_freed_memory()
    print(json.dumps(speed(Plain(**json.loads(sys.argv[1])))))
