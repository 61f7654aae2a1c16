"""Database-side augmentation (DBA): each vector becomes the weighted mean of itself and its nearest neighbours.

Source: R. Arandjelović and A. Zisserman, "Three things everyone should know to improve object retrieval", CVPR 2012,
section 5; used for vectors of whole pictures by the 8th place of the Naver AI Hackathon 2018, where k = 3 with equal
weights, queries among queries and references among references, brought the largest gain of all steps.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from lookalike_retrieval.normalise import normalise
from lookalike_retrieval.topk import Progress, exact_topk_blocks

Weights = Literal["equal", "linear", "rank"]

_VANISHED = 1e-6  # a sum of unit rows shorter than this is rounding noise


class AugmentedBlock(NamedTuple):
    """`rows`, float32 [b, d], replace the rows from `start` on."""

    start: int
    rows: NDArray[np.float32]


def dba_weights(k: int, kind: Weights) -> NDArray[np.float32]:
    """Weights of a row itself (first) and of its k neighbours, nearest first.

    `equal`: 1, 1, …; `linear`: 1 - r / (k + 1), so 1, ¾, ½, ¼ for k = 3; `rank`: 1 / (1 + r), with r = 0 … k.

    Returns:
        float32 [k + 1], first value 1.

    Raises:
        ValueError: k < 0, or an unknown kind.
    """
    if k < 0:
        raise ValueError(f"k must be 0 or more, not {k}")
    rank = np.arange(k + 1, dtype=np.float64)
    if kind == "equal":
        weights = np.ones(k + 1)
    elif kind == "linear":
        weights = 1 - rank / (k + 1)
    elif kind == "rank":
        weights = 1 / (1 + rank)
    else:
        raise ValueError(f"unknown weights {kind!r}; known are {', '.join(get_args(Weights))}")
    return weights.astype(np.float32)


def augment(
    vectors: NDArray[np.floating[Any]], k: int, weights: Weights = "linear", *, progress: Progress | None = None
) -> NDArray[np.float32]:
    """Augment a set of vectors with their neighbours in the same set.

    Args:
        vectors: [n, d], normalised here first.
        k: neighbours besides the row itself, which is counted once; more than n - 1 means n - 1; 0 changes nothing.
        weights: see `dba_weights`.
        progress: called with (rows done, rows).

    Returns:
        float32 [n, d] unit rows. A row whose mean vanishes (opposite vectors) keeps its own direction.

    Raises:
        VectorError: a row is zero or not finite.
        ValueError: k < 0, or unknown weights.
    """
    units = normalise(vectors)
    return _gather(units, augment_blocks(units, k, weights), progress)


def augment_blocks(units: NDArray[np.float32], k: int, weights: Weights = "linear") -> Iterator[AugmentedBlock]:
    """`augment`, block by block, for sets too large to hold twice. `units` are unit rows [n, d], or memory-mapped."""
    return _blocks(units, units, min(k, max(0, len(units) - 1)), weights, np.arange(len(units), dtype=np.int64))


def augment_against(
    vectors: NDArray[np.floating[Any]], pool: NDArray[np.floating[Any]], k: int, weights: Weights = "linear"
) -> NDArray[np.float32]:
    """Augment vectors with their neighbours in a pool that they are not part of, such as items newer than a build.

    Args:
        vectors: [m, d], normalised here first; they are not neighbours of each other.
        pool: [n, d], normalised here first; k more than n means n.
        k: neighbours from the pool; 0 changes nothing.
        weights: see `dba_weights`.

    Returns:
        float32 [m, d] unit rows.

    Raises:
        VectorError: a row is zero or not finite.
        ValueError: k < 0, unknown weights, or dimensions that differ.
    """
    units = normalise(vectors)
    return _gather(units, _blocks(units, normalise(pool), min(k, len(pool)), weights, None), None)


def _blocks(
    units: NDArray[np.float32],
    pool: NDArray[np.float32],
    k: int,
    kind: Weights,
    exclude: NDArray[np.int64] | None,
) -> Iterator[AugmentedBlock]:
    weights = dba_weights(k, kind)
    if k == 0:
        return iter([AugmentedBlock(0, np.array(units, np.float32))])
    neighbours = exact_topk_blocks(units, pool, k, exclude=exclude)
    return (
        AugmentedBlock(start, _weighted_mean(units[start : start + len(top.indices)], pool, top.indices, weights))
        for start, top in neighbours
    )


def _weighted_mean(
    own: NDArray[np.float32], pool: NDArray[np.float32], neighbours: NDArray[np.uint32], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    total = own * weights[0]
    for column, weight in zip(neighbours.T, weights[1:], strict=True):
        total += weight * pool[column]
    vanished = np.linalg.norm(total, axis=1) < _VANISHED
    total[vanished] = own[vanished]
    return normalise(total)


def _gather(units: NDArray[np.float32], blocks: Iterator[AugmentedBlock], progress: Progress | None) -> NDArray[np.float32]:
    augmented = np.empty_like(units)
    for start, rows in blocks:
        stop = start + len(rows)
        augmented[start:stop] = rows
        if progress is not None:
            progress(stop, len(units))
    return augmented
