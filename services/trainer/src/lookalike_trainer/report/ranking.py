"""How pictures rank one another, for people to look at: spread of distances, hardest triplets, confused classes, best and worst queries."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike_retrieval import evaluate_ranking, exact_topk

SHOWN_HITS = 8
_K = 1_000
_BINS = 40
_MOST_SPREAD = 1_000


@dataclass(frozen=True, slots=True)
class Query:
    """A picture with its average precision and its first hits: rows, and cosines."""

    row: int
    ap: float
    hits: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Triplet:
    """An anchor, the picture of its class that is least alike, the picture of another class that is most alike; distances 0..2."""

    anchor: int
    positive: int
    negative: int
    to_positive: float
    to_negative: float


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often the first hit of a picture of `asked` was of `answered`, with one such picture and its hit."""

    asked: int
    answered: int
    times: int
    row: int
    hit: int


@dataclass(frozen=True, slots=True)
class Spread:
    """Shares of pairs by their Euclidean distance in bins of equal width over 0..2, within classes and across."""

    same: NDArray[np.float64]
    different: NDArray[np.float64]


class Ranking:
    """Each of n pictures ranks all the others, exactly.

    Args:
        vectors: float32 [n, d], unit rows.
        classes: int64 [n].
    """

    def __init__(self, vectors: NDArray[np.float32], classes: NDArray[np.int64]) -> None:
        self._vectors, self._classes = vectors, classes
        itself = np.arange(len(vectors), dtype=np.int64)
        self._top = exact_topk(vectors, vectors, _K, exclude=itself)
        self._scores = evaluate_ranking(self._top.indices, classes, classes, k=_K, exclude=itself)

    def spread(self) -> Spread:
        """How far pairs lie apart; of many pictures a fixed sample."""
        rows = np.random.default_rng(0).permutation(len(self._vectors))[:_MOST_SPREAD]
        vectors, classes = self._vectors[rows], self._classes[rows]
        upper = np.triu(np.ones((len(rows), len(rows)), dtype=bool), 1)
        distances = np.sqrt(np.maximum(2 - 2 * vectors @ vectors.T, 0))
        same = classes[:, None] == classes[None]
        return Spread(_shares(distances[upper & same]), _shares(distances[upper & ~same]))

    def hardest(self, limit: int) -> list[Triplet]:
        """The triplets in which the negative is nearer than the positive by most, one an anchor."""
        found = []
        for row in np.flatnonzero(self._scores.answerable):
            alike = self._vectors @ self._vectors[row]
            same = self._classes == self._classes[row]
            positive = int(np.where(same, alike, np.inf).argmin())
            negative = int(np.where(same, -np.inf, alike).argmax())
            if positive != row and not same[negative]:
                found.append(Triplet(int(row), positive, negative, _distance(alike[positive]), _distance(alike[negative])))
        return sorted(found, key=lambda t: t.to_negative - t.to_positive)[:limit]

    def confusions(self, limit: int) -> list[Confusion]:
        """The classes whose pictures most often have a first hit of one other class."""
        first = self._top.indices[:, 0]
        wrong = np.flatnonzero(self._scores.answerable & (self._classes[first] != self._classes))
        pairs = Counter((int(self._classes[row]), int(self._classes[first[row]])) for row in wrong)
        found = []
        for (asked, answered), times in pairs.most_common(limit):
            row = next(row for row in wrong if self._classes[row] == asked and self._classes[first[row]] == answered)
            found.append(Confusion(asked, answered, times, int(row), int(first[row])))
        return found

    def queries(self, limit: int) -> tuple[list[Query], list[Query]]:
        """The worst and the best queries by average precision; none is in both."""
        answered = np.flatnonzero(self._scores.answerable)
        order = answered[np.argsort(self._scores.ap[answered], kind="stable")]
        limit = min(limit, len(order) // 2)
        return [self._query(row) for row in order[:limit]], [self._query(row) for row in order[::-1][:limit]]

    def _query(self, row: int) -> Query:
        hits = zip(self._top.indices[row, :SHOWN_HITS], self._top.scores[row, :SHOWN_HITS], strict=True)
        return Query(int(row), float(self._scores.ap[row]), tuple((int(hit), float(score)) for hit, score in hits))


def _shares(distances: NDArray[np.float32]) -> NDArray[np.float64]:
    counts, _ = np.histogram(distances, bins=_BINS, range=(0, 2))
    shares: NDArray[np.float64] = counts / max(1, int(counts.sum()))
    return shares


def _distance(cosine: float) -> float:
    return float(np.sqrt(max(2 - 2 * float(cosine), 0)))
