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
    """Indices of classes on either side, ascending; no class is on both.

    Attributes:
        fold: rows of pictures, ascending, that are not trained on though their classes are.
    """

    train: tuple[int, ...]
    held_out: tuple[int, ...]
    fold: tuple[int, ...] = ()


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


def fold_rows(rows_by_class: Sequence[NDArray[np.int64]], paths: Sequence[str], folds: int, fold: int, seed: int) -> tuple[int, ...]:
    """The rows of one fold of a stratified k-fold, ascending: each class's pictures are dealt out evenly, in the order of a hash.

    A class with one picture is in no fold, so that each class is trained on in every fold.

    Args:
        rows_by_class: int64 [pictures of the class], for each.
        paths: of the pictures, by row.
        fold: 0..folds − 1.
    """
    chosen: list[int] = []
    dealt = 0
    for rows in rows_by_class:
        if len(rows) < 2:
            continue
        ordered = sorted(rows.tolist(), key=lambda row: hashlib.sha256(f"{seed}/{paths[row]}".encode()).digest())
        chosen += [row for place, row in enumerate(ordered, dealt) if place % folds == fold]
        dealt += len(rows)
    return tuple(sorted(chosen))
