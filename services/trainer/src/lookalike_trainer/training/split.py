"""Which classes are held out, never to be trained on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FEWEST_CLASSES = 10
_FEWEST_HELD_OUT, _MOST_HELD_OUT = 3, 100


@dataclass(frozen=True, slots=True)
class Split:
    """Indices of classes on either side, ascending; no class is on both."""

    train: tuple[int, ...]
    held_out: tuple[int, ...]


def split_classes(names: Sequence[str], counts: NDArray[np.int64], share: float, seed: int) -> Split:
    """Hold out a share of the classes, those whose label hashes lowest.

    Only classes with at least two pictures are held out: of one picture nothing can be measured. The hash makes the
    choice independent of the order of classes, and mostly the same when a class is added.

    Args:
        names: labels.
        counts: int64 [classes], pictures of each.
        share: of all classes, 0..0.5; with it at least 3 and at most 100 classes, and none of fewer than 10 classes.
    """
    usable = [index for index, count in enumerate(counts) if count >= 2]
    wanted = min(max(round(share * len(names)), _FEWEST_HELD_OUT), _MOST_HELD_OUT)
    if share == 0 or len(names) < _FEWEST_CLASSES or len(usable) < 2 * wanted:
        return Split(tuple(range(len(names))), ())
    ordered = sorted(usable, key=lambda index: hashlib.sha256(f"{seed}/{names[index]}".encode()).digest())
    held_out = set(ordered[:wanted])
    return Split(tuple(i for i in range(len(names)) if i not in held_out), tuple(sorted(held_out)))
