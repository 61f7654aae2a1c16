"""How long a model takes with so many threads, tried."""

from __future__ import annotations

import time
from collections.abc import Callable
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
    """The quickest round of batches within about `seconds`, over its pictures; in threads that end with it."""
    batch = _noise(model, trial.pictures)
    with ThreadPoolExecutor(trial.side_by_side, "trial", torch.set_num_threads, (trial.threads,)) as pool:

        def round_of_batches() -> None:
            for running in [pool.submit(model.embed, batch) for _ in range(trial.side_by_side)]:
                running.result()

        return _quickest(round_of_batches, seconds) / (trial.pictures * trial.side_by_side)


def seconds_of_one(model: PictureModel, threads: int, seconds: float) -> float:
    """The quickest run of one picture within about `seconds`, in the thread that calls."""
    torch.set_num_threads(threads)
    picture = _noise(model, 1)
    return _quickest(lambda: model.embed(picture), seconds)


def _quickest(work: Callable[[], object], seconds: float) -> float:
    """Of the seconds that it took, once or more often; the first time only warms up, since it may compile."""

    def once() -> float:
        begun = time.perf_counter()
        work()
        return time.perf_counter() - begun

    once()
    ending = time.perf_counter() + seconds
    taken = [once()]
    while time.perf_counter() + min(taken) < ending:
        taken.append(once())
    return min(taken)


def _noise(model: PictureModel, pictures: int) -> NDArray[np.uint8]:
    """Noise, as the model's `inputs` lays pictures out."""
    row = np.random.default_rng(0).integers(0, 256, model.inputs.nbytes, dtype=np.uint8)
    size = model.inputs.specs[0].size
    return np.stack([row] * pictures).reshape((pictures, size, size, 3) if len(model.inputs.specs) == 1 else (pictures, -1))
