"""Intervals for means over queries, with classes as the unit that is drawn.

Queries of one class are not independent (they share their relevant references), so resampling queries gives intervals
that are too narrow. Here classes are drawn with replacement and each brings all its queries: the cluster bootstrap of
A. C. Davison and D. V. Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8, percentile interval.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DRAWS = 1_000_000  # classes drawn at once


@dataclass(frozen=True)
class Interval:
    """The mean over queries, and the interval that holds it."""

    mean: float
    low: float
    high: float


def class_bootstrap(
    values: NDArray[np.floating[Any]],
    classes: NDArray[Any],
    *,
    samples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """The interval of the mean of `values`, classes resampled.

    Args:
        values: [q], one per query, finite: leave out queries that cannot be answered.
        classes: [q], the class of each query, text or integers; at least 2 different ones.
        samples: how often all classes are drawn, ≥ 1.
        seed: the same seed gives the same interval.
        level: share of the samples' means inside the interval, between 0 and 1.

    Raises:
        ValueError: shapes that differ, a value that is not finite, fewer than 2 classes, samples or level out of range.
    """
    _check(values, classes, samples, level)
    _, codes = np.unique(classes, return_inverse=True)
    counts = np.bincount(codes)
    sums = np.bincount(codes, weights=values).astype(np.float64)
    means = _resampled_means(sums, counts, samples, np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high))


def paired_class_bootstrap(
    a: NDArray[np.floating[Any]],
    b: NDArray[np.floating[Any]],
    classes: NDArray[Any],
    *,
    samples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """The interval of the mean of b - a, both measured on the same queries: above 0 means that b is better.

    Arguments and errors as `class_bootstrap`; `a` and `b` are [q].
    """
    if a.shape != b.shape:
        raise ValueError(f"a and b must belong to the same queries, but have shapes {list(a.shape)} and {list(b.shape)}")
    return class_bootstrap(b - a, classes, samples=samples, seed=seed, level=level)


def _resampled_means(sums: NDArray[np.float64], counts: NDArray[np.intp], samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    means = np.empty(samples)
    at_once = max(1, _DRAWS // len(sums))
    for start in range(0, samples, at_once):
        stop = min(start + at_once, samples)
        drawn = rng.integers(len(sums), size=(stop - start, len(sums)))
        means[start:stop] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means


def _check(values: NDArray[np.floating[Any]], classes: NDArray[Any], samples: int, level: float) -> None:
    if values.ndim != 1 or len(classes) != len(values):
        raise ValueError(f"{len(classes)} classes do not fit values of the shape {list(values.shape)}")
    if not np.isfinite(values).all():
        raise ValueError(f"value {int(np.flatnonzero(~np.isfinite(values))[0])} is not finite: leave that query out")
    if len(np.unique(classes)) < 2:
        raise ValueError("an interval over classes needs queries of at least 2 classes")
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level}")
