"""P × K batches: classes evenly, several pictures of each."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ClassBalancedSampler:
    """Draws batches of `classes` × `pictures` rows.

    Classes come in shuffled rounds, and so do the pictures of each class. A class with fewer than `pictures` pictures
    repeats them (augmented differently); of a class with a single one it is taken once, so that it is no pair with
    itself and never an anchor, and another class fills the place.

    Attributes:
        rows: rows of the pictures, by class.
        classes: P, at least 2.
        pictures: K, at least 1.
    """

    rows: Mapping[int, NDArray[np.int64]]
    classes: int
    pictures: int

    @property
    def batch_size(self) -> int:
        """Rows a batch."""
        return min(self.classes * self.pictures, sum(self._share(len(rows)) for rows in self.rows.values()))

    @property
    def batches_per_epoch(self) -> int:
        """Batches that show as many pictures as there are."""
        return max(1, math.ceil(sum(len(rows) for rows in self.rows.values()) / self.batch_size))

    def epoch(self, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        """The batches of an epoch, int64 [batch_size] rows each: the same for the same seed and epoch."""
        random = np.random.Generator(np.random.Philox(key=stream_key("sampler", seed, epoch)))
        round_of_classes: list[int] = []
        rounds_of_pictures: dict[int, list[int]] = {label: [] for label in self.rows}
        batches = []
        for _ in range(self.batches_per_epoch):
            batch: list[int] = []
            used: set[int] = set()
            while len(batch) < self.batch_size:
                label = self._next_class(round_of_classes, used, random)
                used.add(label)
                batch += self._take(label, rounds_of_pictures[label], random)[: self.batch_size - len(batch)]
            batches.append(np.array(batch, dtype=np.int64))
        return batches

    def _share(self, available: int) -> int:
        return 1 if available == 1 else self.pictures

    def _next_class(self, waiting: list[int], used: set[int], random: np.random.Generator) -> int:
        """The first waiting class that is not in the batch; a new round is shuffled where none is."""
        for position, label in enumerate(waiting):
            if label not in used:
                return waiting.pop(position)
        waiting.extend(_shuffled(list(self.rows), random))
        return self._next_class(waiting, used, random)

    def _take(self, label: int, waiting: list[int], random: np.random.Generator) -> list[int]:
        """The next pictures of a class; none twice, unless it has too few."""
        share = self._share(len(self.rows[label]))
        while len(waiting) < share:
            left = set(waiting)
            waiting.extend(sorted(_shuffled(self.rows[label].tolist(), random), key=left.__contains__))
        taken = waiting[:share]
        del waiting[:share]
        return taken


def stream_key(*parts: object) -> int:
    """128 bits for a random stream of its own: a hash of what it belongs to."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")


def _shuffled(items: Sequence[int], random: np.random.Generator) -> list[int]:
    return [items[index] for index in random.permutation(len(items))]
