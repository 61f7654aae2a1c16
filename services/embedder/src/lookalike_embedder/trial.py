"""How long a model takes with so many threads, tried."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike_model.embedding_model import PictureModel


class Threads(NamedTuple):
    """Threads of the CPU that a model takes: for a batch, and for one picture that has the device for itself; 1 on a GPU."""

    batch: int = 1
    single: int = 1


ONE_THREAD = Threads()


class Trial(NamedTuple):
    """What is tried: threads of each batch, batches side by side, pictures in each."""

    threads: int
    side_by_side: int
    pictures: int


def seconds_a_picture(model: PictureModel, trial: Trial, seconds: float) -> float:
    """The quickest round within about `seconds`; the first, which warms up, counts only if there is no time for another.

    All of it happens in threads that end with it: OpenMP counts those that have run with several threads, and lets all wait
    less eagerly once there are more than cores.
    """
    batch = _noise(model, trial.pictures)
    with ThreadPoolExecutor(trial.side_by_side, "trial", torch.set_num_threads, (trial.threads,)) as pool:

        def round_seconds() -> float:
            begun = time.perf_counter()
            for running in [pool.submit(model.embed, batch) for _ in range(trial.side_by_side)]:
                running.result()
            return time.perf_counter() - begun

        ending = time.perf_counter() + seconds
        warm_up = round_seconds()
        rounds: list[float] = []
        while time.perf_counter() + min(rounds, default=warm_up) < ending:
            rounds.append(round_seconds())
    return min(rounds, default=warm_up) / (trial.pictures * trial.side_by_side)


def _noise(model: PictureModel, pictures: int) -> NDArray[np.uint8]:
    """Noise, as the model's `inputs` lays pictures out."""
    row = np.random.default_rng(0).integers(0, 256, model.inputs.nbytes, dtype=np.uint8)
    size = model.inputs.specs[0].size
    return np.stack([row] * pictures).reshape((pictures, size, size, 3) if len(model.inputs.specs) == 1 else (pictures, -1))
