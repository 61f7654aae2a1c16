"""How good rankings are: average precision and recall at k, per query and on average.

A reference is relevant to a query when it has the query's label. R is the number of relevant references of a query.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lookalike_retrieval.topk import check_exclude

Denominator = Literal["min_r_k", "r", "hits"]

_BLOCK_QUERIES = 1024


@dataclass(frozen=True, eq=False)
class RankingScores:
    """Scores of each query; the arrays are float64 [q], NaN for a query without a relevant reference.

    ap: average precision at k, see `average_precision`.
    r1, r5: recall@1 and recall@5 as retrieval papers use them: 1 if any of the first 1 or 5 is relevant, else 0
        (trec_eval calls it success; its own recall is the share of all R that was found).
    k, denominator: the definition of `ap`.
    """

    ap: NDArray[np.float64]
    r1: NDArray[np.float64]
    r5: NDArray[np.float64]
    k: int
    denominator: Denominator

    @property
    def answerable(self) -> NDArray[np.bool_]:
        """bool [q]: the query has a relevant reference. The others are left out of the means."""
        return ~np.isnan(self.ap)

    @property
    def unanswerable(self) -> int:
        """How many queries have no relevant reference."""
        return int(np.isnan(self.ap).sum())

    @property
    def mean_ap(self) -> float:
        """mAP@k; NaN where no query can be answered."""
        return self._mean(self.ap)

    @property
    def mean_r1(self) -> float:
        """Mean R@1; NaN where no query can be answered."""
        return self._mean(self.r1)

    @property
    def mean_r5(self) -> float:
        """Mean R@5; NaN where no query can be answered."""
        return self._mean(self.r5)

    def _mean(self, values: NDArray[np.float64]) -> float:
        answered = values[self.answerable]
        return float(answered.mean()) if len(answered) else float("nan")


def average_precision(relevant_at_rank: NDArray[np.bool_], n_relevant: int, k: int, denominator: Denominator = "min_r_k") -> float:
    """Average precision at k of one ranking.

    AP@k = Σ_{i ≤ k} rel(i) · P(i) / D, where rel(i) is 1 if the reference at rank i is relevant, else 0, and P(i) is
    the share of relevant ones among the first i. Definitions in use differ in D:

    - `min_r_k`: min(R, k). A perfect ranking scores 1 whatever k is. Ours.
    - `r`: R, as trec_eval's map_cut_k. With R > k even a perfect ranking stays below 1.
    - `hits`: relevant ones found among the first k, 0 if none. Not finding some costs nothing.

    Args:
        relevant_at_rank: bool [length], best rank first. Ranks beyond its end count as not relevant.
        n_relevant: R ≥ 1, found or not.
        k: ranks that count, ≥ 1.

    Raises:
        ValueError: R < 1 or fewer than were found, k < 1, or an unknown denominator.
    """
    if n_relevant < 1:
        raise ValueError(f"n_relevant must be at least 1, not {n_relevant}: without any, precision has no meaning")
    if relevant_at_rank.sum() > n_relevant:
        raise ValueError(f"{relevant_at_rank.sum()} relevant references are ranked, but n_relevant is {n_relevant}")
    _check_definition(k, denominator)
    return float(_average_precisions(relevant_at_rank[None, :], np.array([n_relevant]), k, denominator)[0])


def evaluate_ranking(
    indices: NDArray[np.integer[Any]],
    query_labels: NDArray[Any],
    reference_labels: NDArray[Any],
    *,
    k: int,
    denominator: Denominator = "min_r_k",
    exclude: NDArray[np.int64] | None = None,
) -> RankingScores:
    """Score the rankings of many queries.

    Args:
        indices: [q, k'], reference rows, best first, as `exact_topk` gives them. Places beyond k' count as misses.
        query_labels: [q], text or integers; every value is a label, the empty text too.
        reference_labels: [n], of the same kind.
        k: ranks that count for average precision, ≥ 1; R@1 and R@5 look at the first 1 and 5 columns whatever k is.
        denominator: see `average_precision`.
        exclude: [q], the reference left out for each query (the query itself), -1 for none. It does not count in R.

    Raises:
        ValueError: shapes that do not fit, labels of two kinds, rows out of range, a reference ranked twice or although
            it is excluded, k < 1, or an unknown denominator.
    """
    _check_definition(k, denominator)
    _check_ranking(indices, len(query_labels), len(reference_labels))
    queries, references = _label_codes(np.asarray(query_labels), np.asarray(reference_labels))
    relevant_counts = np.bincount(references, minlength=int(queries.max(initial=-1)) + 1)[queries]
    if exclude is not None:
        check_exclude(exclude, len(queries), len(references))
        _refuse_excluded(indices, exclude)
        relevant_counts -= (exclude >= 0) & (references[exclude] == queries)

    ap, r1, r5 = np.full((3, len(queries)), np.nan)
    for start in range(0, len(queries), _BLOCK_QUERIES):
        block = start + np.flatnonzero(relevant_counts[start : start + _BLOCK_QUERIES])
        _refuse_repeats(indices, block)
        relevant = references[indices[block]] == queries[block, None]
        ap[block] = _average_precisions(relevant, relevant_counts[block], k, denominator)
        r1[block] = relevant[:, :1].any(axis=1)
        r5[block] = relevant[:, :5].any(axis=1)
    return RankingScores(ap, r1, r5, k, denominator)


def _average_precisions(
    relevant: NDArray[np.bool_], relevant_counts: NDArray[np.integer[Any]], k: int, denominator: Denominator
) -> NDArray[np.float64]:
    relevant = relevant[:, :k]
    found = relevant.cumsum(axis=1)
    precision = found / np.arange(1, relevant.shape[1] + 1)
    hits = relevant.sum(axis=1)
    divisors = {"min_r_k": np.minimum(relevant_counts, k), "r": relevant_counts, "hits": np.maximum(hits, 1)}
    total = (precision * relevant).sum(axis=1)
    return np.asarray(total / divisors[denominator], np.float64)


def _label_codes(queries: NDArray[Any], references: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    kinds = {"text" if labels.dtype.kind in "UT" else labels.dtype.kind for labels in (queries, references)}
    if not (kinds == {"text"} or kinds <= {"i", "u"}):
        raise ValueError(f"labels must be text on both sides or integers on both, not {queries.dtype} and {references.dtype}")
    _, codes = np.unique(np.concatenate([queries, references]), return_inverse=True)
    return codes[: len(queries)], codes[len(queries) :]


def _check_definition(k: int, denominator: str) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if denominator not in get_args(Denominator):
        raise ValueError(f"unknown denominator {denominator!r}; known are {', '.join(get_args(Denominator))}")


def _check_ranking(indices: NDArray[np.integer[Any]], queries: int, references: int) -> None:
    if indices.ndim != 2 or len(indices) != queries:
        raise ValueError(f"indices must have the shape [{queries} queries, k], not {list(indices.shape)}")
    if indices.size and (indices.min() < 0 or indices.max() >= references):
        raise ValueError(f"indices hold rows from {indices.min()} to {indices.max()}; there are {references} references")


def _refuse_excluded(indices: NDArray[np.integer[Any]], exclude: NDArray[np.int64]) -> None:
    for start in range(0, len(indices), _BLOCK_QUERIES):
        block = slice(start, start + _BLOCK_QUERIES)
        ranked = (indices[block] == exclude[block, None]).any(axis=1)
        if ranked.any():
            query = start + int(ranked.argmax())
            raise ValueError(f"query {query} ranks reference {exclude[query]}, which is excluded for it")


def _refuse_repeats(indices: NDArray[np.integer[Any]], block: NDArray[np.intp]) -> None:
    ordered = np.sort(indices[block], axis=1)
    repeated = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    if repeated.any():
        raise ValueError(f"query {block[repeated.argmax()]} ranks a reference twice")
