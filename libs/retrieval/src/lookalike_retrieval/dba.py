"""Database-side augmentation (DBA): each vector becomes the weighted mean of itself and its nearest neighbours.

Source: R. Arandjelović and A. Zisserman, "Three things everyone should know to improve object retrieval", CVPR 2012,
section 5; used for vectors of whole pictures by the 8th place of the Naver AI Hackathon 2018, where k = 3 with equal
weights, queries among queries and references among references, brought the largest gain of all steps. Weights by a
power of the similarity: F. Radenović, G. Tolias and O. Chum, "Fine-tuning CNN image retrieval with no human
annotation", TPAMI 2019, section 3.4, there for queries.
"""

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from lookalike_retrieval.neighbours import nearest_others
from lookalike_retrieval.normalise import check_matrix, normalise
from lookalike_retrieval.topk import Progress, TopK, exact_topk

Weights = Literal["equal", "linear", "rank", "power"]

DEFAULT_POWER = 3.0

_VANISHED = 1e-6  # a sum of unit rows shorter than this is rounding noise
_BLOCK = 512  # rows averaged at once


class AugmentedBlock(NamedTuple):
    """`rows`, float32 [b, d], replace the rows from `start` on.

    `neighbours`, uint32 [b, k], were averaged into each in the last round, nearest first; `similarities`, float32 [b, k],
    are their cosines with it before that round. k is what there was to take: at most n - 1.
    """

    start: int
    rows: NDArray[np.float32]
    neighbours: NDArray[np.uint32]
    similarities: NDArray[np.float32]


class _Mean(NamedTuple):
    """How neighbours are averaged in."""

    weights: Weights
    power: float


@dataclass(frozen=True)
class _Rounds:
    """How many, where what comes between is kept, and who hears of it."""

    count: int
    scratch: Path | None
    progress: Progress | None

    def teller(self, done: int, rows: int) -> Progress | None:
        """What a round hears after `done` others."""
        progress = self.progress
        if progress is None:
            return None
        return lambda stop, _: progress(done * rows + stop, self.count * rows)


def dba_weights(k: int, kind: Weights) -> NDArray[np.float32]:
    """Weights of a row itself (first) and of its k neighbours, nearest first, where the rank alone decides.

    `equal`: 1, 1, …; `linear`: 1 - r / (k + 1), so 1, ¾, ½, ¼ for k = 3; `rank`: 1 / (1 + r), with r = 0 … k.

    Returns:
        float32 [k + 1], first value 1.

    Raises:
        ValueError: k < 0, or a kind that is unknown or goes by similarity.
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
    elif kind == "power":
        raise ValueError("weights 'power' go by similarity, not by rank: see neighbour_weights")
    else:
        raise ValueError(f"unknown weights {kind!r}; known are {', '.join(get_args(Weights))}")
    return weights.astype(np.float32)


def neighbour_weights(similarities: NDArray[np.float32], kind: Weights, power: float = DEFAULT_POWER) -> NDArray[np.float32]:
    """Weight of each neighbour, nearest first, where the row itself has 1.

    Args:
        similarities: [b, k] cosines of b rows with their k neighbours.
        kind: as in `dba_weights`, or `power`: the cosine to the power of `power`, 0 where it is negative.
        power: over 0; without meaning for other kinds.

    Returns:
        float32 [b, k].

    Raises:
        ValueError: an unknown kind, or a power that is not above 0 and finite.
    """
    if kind == "power":
        if not (math.isfinite(power) and power > 0):
            raise ValueError(f"power must be above 0, not {power}")
        return np.power(np.maximum(similarities, 0, dtype=np.float64), power).astype(np.float32)
    return np.broadcast_to(dba_weights(similarities.shape[1], kind)[1:], similarities.shape)


def weighted_mean(
    own: NDArray[np.float32], pool: NDArray[np.float32], neighbours: NDArray[np.uint32], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Mean of each of the unit rows `own` [b, d], counted once, and its `neighbours` [b, k], rows of `pool`, by `weights` [b, k].

    Returns:
        float32 [b, d] unit rows; one whose mean vanishes keeps its own direction.
    """
    total = np.array(own, np.float32)
    for column, weight in zip(neighbours.T, weights.T, strict=True):
        total += weight[:, None] * pool[column]
    vanished = np.linalg.norm(total, axis=1) < _VANISHED
    total[vanished] = own[vanished]
    return normalise(total)


def augment(
    vectors: NDArray[np.floating[Any]],
    k: int,
    weights: Weights = "linear",
    *,
    power: float = DEFAULT_POWER,
    rounds: int = 1,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Augment a set of vectors with their neighbours in the same set.

    Args:
        vectors: [n, d], normalised here first.
        k: neighbours besides the row itself, which is counted once; more than n - 1 means n - 1; 0 changes nothing.
        weights: see `neighbour_weights`.
        power: see `neighbour_weights`.
        rounds: how often, ≥ 1; each round augments what the one before came to, with neighbours found anew.
        progress: called with (rows done, rows), where every round has all rows.

    Returns:
        float32 [n, d] unit rows. A row whose mean vanishes (opposite vectors) keeps its own direction.

    Raises:
        VectorError: a row is zero or not finite.
        ValueError: k < 0, rounds < 1, unknown weights, or a power that is not above 0.
    """
    units = normalise(vectors)
    augmented = np.empty_like(units)
    for block in augment_blocks(units, k, weights, power=power, rounds=rounds, progress=progress):
        augmented[block.start : block.start + len(block.rows)] = block.rows
    return augmented


def augment_blocks(
    units: NDArray[np.float32],
    k: int,
    weights: Weights = "linear",
    *,
    power: float = DEFAULT_POWER,
    rounds: int = 1,
    scratch: Path | None = None,
    progress: Progress | None = None,
) -> Iterator[AugmentedBlock]:
    """`augment`, block by block, for sets too large to hold twice.

    All neighbours are found before the first block comes: `progress` tells how far that is. Memory beyond the vectors is n × k pairs
    and a few tiles.

    Args:
        units: unit rows [n, d], or memory-mapped; they must not change until the last block.
        k: as in `augment`, as are weights, power, rounds and progress.
        scratch: folder for what a round but the last comes to, n × d × 4 bytes twice at most, in files without a name; None is the
            system's folder for temporary files.

    Raises:
        ValueError: `units` is not [n, d], k < 0, rounds < 1, unknown weights, or a power that is not above 0.
    """
    check_matrix("units", units)
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, not {rounds}")
    mean = _Mean(weights, power)
    _check(k, mean)
    return _last_round(units, min(k, max(0, len(units) - 1)), mean, _Rounds(rounds, scratch, progress))


def augment_against(
    units: NDArray[np.float32], pool: NDArray[np.float32], k: int, weights: Weights = "linear", *, power: float = DEFAULT_POWER
) -> AugmentedBlock:
    """Augment rows, once, with their neighbours in a pool that they are not part of, such as items newer than a build.

    Args:
        units: unit rows [m, d]; they are not neighbours of each other.
        pool: unit rows [n, d], or memory-mapped; k more than n means n.
        k: neighbours from the pool; 0 changes nothing.
        weights: see `neighbour_weights`.
        power: see `neighbour_weights`.

    Returns:
        All rows; `neighbours` are rows of the pool.

    Raises:
        VectorError: a row is not finite.
        ValueError: k < 0, unknown weights, a power that is not above 0, or dimensions that differ.
    """
    mean = _Mean(weights, power)
    _check(k, mean)
    if min(k, len(pool)) == 0:
        return _augmented(0, units, pool, _none(len(units)), mean)
    return _augmented(0, units, pool, exact_topk(units, pool, k), mean)


def _check(k: int, mean: _Mean) -> None:
    if k < 0:
        raise ValueError(f"k must be 0 or more, not {k}")
    neighbour_weights(np.empty((0, k), np.float32), *mean)


def _none(rows: int) -> TopK:
    return TopK(np.empty((rows, 0), np.uint32), np.empty((rows, 0), np.float32))


def _augmented(start: int, own: NDArray[np.float32], pool: NDArray[np.float32], nearest: TopK, mean: _Mean) -> AugmentedBlock:
    rows = weighted_mean(own, pool, nearest.indices, neighbour_weights(nearest.scores, *mean)) if nearest.indices.size else np.array(own)
    return AugmentedBlock(start, rows, *nearest)


def _last_round(units: NDArray[np.float32], k: int, mean: _Mean, rounds: _Rounds) -> Iterator[AugmentedBlock]:
    for done in range(rounds.count - 1 if k else 0):
        units = _written(_round(units, k, mean, rounds.teller(done, len(units))), units.shape, rounds.scratch)
    yield from _round(units, k, mean, rounds.teller(rounds.count - 1, len(units)))


def _round(units: NDArray[np.float32], k: int, mean: _Mean, progress: Progress | None) -> Iterator[AugmentedBlock]:
    nearest = nearest_others(units, k, progress=progress) if k else _none(len(units))
    for start in range(0, len(units), _BLOCK):
        rows = slice(start, start + _BLOCK)
        yield _augmented(start, units[rows], units, TopK(nearest.indices[rows], nearest.scores[rows]), mean)


def _written(blocks: Iterator[AugmentedBlock], shape: tuple[int, ...], scratch: Path | None) -> NDArray[np.float32]:
    """Write rows to a file that vanishes with its last map, and map it."""
    with tempfile.TemporaryFile(dir=scratch) as file:
        for block in blocks:
            file.write(block.rows.tobytes())
        file.flush()
        return np.memmap(file, np.float32, "r", shape=shape)
