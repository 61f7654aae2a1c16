"""Pairs of classes that look like one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1_024


@dataclass(frozen=True, slots=True)
class AlikePair:
    """Two classes: mean cosine between pictures of the two, and the mean of those within each. `first` < `second`."""

    first: int
    second: int
    between: float
    within: float


def alike_classes(vectors: NDArray[np.float32], classes: NDArray[np.int64], count: int, limit: int) -> list[AlikePair]:
    """Pairs whose pictures are as alike across the two classes as within them, the most alike first.

    Args:
        vectors: [n, d], unit rows.
        classes: [n], 0 to `count` − 1; those with fewer than two pictures are in no pair.
        limit: most pairs that are returned.
    """
    sizes = np.bincount(classes, minlength=count)
    usable = np.flatnonzero(sizes > 1)
    sums = np.zeros((count, vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, classes, vectors)
    sums, sizes = sums[usable], sizes[usable].astype(np.float32)
    means = sums / sizes[:, None]
    within = ((sums * sums).sum(axis=1) - sizes) / (sizes * (sizes - 1))
    found: list[AlikePair] = []
    for start in range(0, len(usable), _BLOCK):
        between = means[start : start + _BLOCK] @ means.T
        inside = (within[start : start + _BLOCK, None] + within[None]) / 2
        later = np.arange(len(usable))[None] > np.arange(start, start + len(between))[:, None]
        for row, column in np.argwhere((between >= inside) & later):
            pair = (int(usable[start + row]), int(usable[column]), float(between[row, column]), float(inside[row, column]))
            found.append(AlikePair(*pair))
        found = sorted(found, key=lambda pair: pair.within - pair.between)[:limit]
    return found
