from typing import Any, cast

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lookalike_retrieval import Denominator, average_precision, evaluate_ranking, exact_topk, normalise

DENOMINATORS: list[Denominator] = ["min_r_k", "r", "hits"]


def plain_average_precision(relevant: list[bool], n_relevant: int, k: int, denominator: Denominator) -> float:
    """The definition, in a loop."""
    hits, total = 0, 0.0
    for rank, is_relevant in enumerate(relevant[:k], start=1):
        if is_relevant:
            hits += 1
            total += hits / rank
    divisor = {"min_r_k": min(n_relevant, k), "r": n_relevant, "hits": hits}[denominator]
    return total / divisor if hits else 0.0


def rankings(seed: int, queries: int, references: int, length: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(references)[:length] for _ in range(queries)])


@given(st.lists(st.booleans(), max_size=30), st.integers(0, 20), st.integers(1, 40), st.sampled_from(DENOMINATORS))
def test_average_precision_is_that_of_a_plain_loop(relevant: list[bool], missed: int, k: int, denominator: Denominator) -> None:
    n_relevant = max(1, sum(relevant) + missed)
    expected = plain_average_precision(relevant, n_relevant, k, denominator)
    assert average_precision(np.array(relevant, np.bool_), n_relevant, k, denominator) == pytest.approx(expected)


def test_denominators_differ_as_they_are_defined() -> None:
    """Ranks 1 and 3 of 4 are right, of 8 right ones: the sum of precisions is 1 + 2/3."""
    relevant = np.array([True, False, True, False])
    expected = {"min_r_k": 5 / 3 / 4, "r": 5 / 3 / 8, "hits": 5 / 3 / 2}
    for denominator in DENOMINATORS:
        assert average_precision(relevant, 8, 4, denominator) == pytest.approx(expected[denominator])


def trec_scores(indices: NDArray[np.int64], queries: NDArray[Any], references: NDArray[Any], measure: str) -> Any:
    truth = {f"q{i}": {f"r{j}": int(label == other) for j, other in enumerate(references)} for i, label in enumerate(queries)}
    run = {f"q{i}": {f"r{j}": float(-rank) for rank, j in enumerate(row)} for i, row in enumerate(indices)}
    return pytrec_eval.RelevanceEvaluator(truth, {measure}).evaluate(run)


@pytest.mark.parametrize("labels", ["text", "integers"])
@pytest.mark.parametrize("k", [3, 10, 50])
def test_scores_agree_with_trec_eval_where_definitions_do(k: int, labels: str) -> None:
    rng = np.random.default_rng(k)
    queries, references = rng.integers(4, size=20), np.concatenate([np.arange(4), rng.integers(4, size=36)])
    indices = rankings(k, 20, 40, 25)
    names = np.array(["owl", "cat", "elk", "a"]) if labels == "text" else np.array([70, 3, 12, -1])
    ours = evaluate_ranking(indices, names[queries], names[references], k=k, denominator="r")
    ap = trec_scores(indices, queries, references, f"map_cut.{k}")
    success = trec_scores(indices, queries, references, "success.1,5")
    for i in range(20):
        assert ours.ap[i] == pytest.approx(ap[f"q{i}"][f"map_cut_{k}"])
        assert ours.r1[i] == success[f"q{i}"]["success_1"]
        assert ours.r5[i] == success[f"q{i}"]["success_5"]
    assert ours.mean_ap == pytest.approx(np.mean([scores[f"map_cut_{k}"] for scores in ap.values()]))
    # With R ≤ k for every query the default is trec_eval's definition too.
    if k == 50:
        assert (evaluate_ranking(indices, names[queries], names[references], k=k).ap == ours.ap).all()


@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_many_queries_score_as_each_does_alone(denominator: Denominator) -> None:
    rng = np.random.default_rng(0)
    queries, references = rng.integers(6, size=2300), rng.integers(5, size=30)
    indices = rankings(0, 2300, 30, 20)
    scores = evaluate_ranking(indices, queries, references, k=8, denominator=denominator)
    for i, label in enumerate(queries):
        total = int((references == label).sum())
        if total:
            relevant = (references[indices[i]] == label).tolist()
            assert scores.ap[i] == pytest.approx(plain_average_precision(relevant, total, 8, denominator))
            assert scores.r5[i] == any(relevant[:5])
        else:
            assert np.isnan([scores.ap[i], scores.r1[i], scores.r5[i]]).all()
    assert (scores.k, scores.denominator) == (8, denominator)


def test_queries_without_a_relevant_reference_are_counted_apart() -> None:
    scores = evaluate_ranking(np.array([[0, 1], [0, 1], [1, 0]]), np.array(["a", "x", "a"]), np.array(["a", "b"]), k=2)
    assert scores.unanswerable == 1
    assert scores.answerable.tolist() == [True, False, True]
    assert (scores.mean_ap, scores.mean_r1, scores.mean_r5) == (0.75, 0.5, 1.0)


def test_without_any_answerable_query_the_means_are_nan() -> None:
    scores = evaluate_ranking(np.array([[0]]), np.array(["x"]), np.array(["a"]), k=1)
    assert np.isnan([scores.mean_ap, scores.mean_r1, scores.mean_r5]).all()


def test_excluded_references_do_not_count_as_relevant() -> None:
    """A set ranked against itself scores as each query does against the set without it."""
    vectors = normalise(np.random.default_rng(0).standard_normal((40, 5)))
    labels = np.random.default_rng(1).integers(12, size=40)
    own = np.arange(40)
    scores = evaluate_ranking(exact_topk(vectors, vectors, 9, exclude=own).indices, labels, labels, k=9, exclude=own)
    for i in range(40):
        rest = np.delete(own, i)
        top = exact_topk(vectors[i : i + 1], vectors[rest], 9)
        alone = evaluate_ranking(top.indices, labels[i : i + 1], labels[rest], k=9)
        np.testing.assert_equal(scores.ap[i], alone.ap[0])
    assert scores.unanswerable > 0


def test_recall_at_five_looks_beyond_a_smaller_k() -> None:
    scores = evaluate_ranking(np.array([[1, 0, 2]]), np.array(["a"]), np.array(["b", "b", "a"]), k=2)
    assert (scores.ap[0], scores.r1[0], scores.r5[0]) == (0, 0, 1)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"k": 0}, "k must be at least 1"),
        ({"denominator": "found"}, "unknown denominator 'found'; known are min_r_k, r, hits"),
        ({"indices": np.array([[0, 3], [1, 0]])}, "there are 3 references"),
        ({"indices": np.array([[0, -1], [1, 0]])}, "from -1"),
        ({"indices": np.array([[0, 1]])}, "2 queries"),
        ({"indices": np.array([[0, 1], [2, 2]])}, "query 1 ranks a reference twice"),
        ({"query_labels": np.array([1, 2])}, "text on both sides"),
        ({"exclude": np.array([-1, 0])}, "query 1 ranks reference 0, which is excluded"),
        ({"exclude": np.array([-1])}, "each of 2 queries"),
    ],
)
def test_rankings_that_cannot_be_scored_are_refused(change: dict[str, Any], match: str) -> None:
    arguments: dict[str, Any] = {
        "indices": np.array([[0, 1], [1, 0]]),
        "query_labels": np.array(["a", "b"]),
        "reference_labels": np.array(["a", "b", "b"]),
        "k": 2,
    } | change
    with pytest.raises(ValueError, match=match):
        evaluate_ranking(**arguments)


def test_an_average_precision_without_meaning_is_refused() -> None:
    hit = np.array([True, True])
    for n_relevant, k, denominator in ((0, 1, "r"), (1, 2, "r"), (2, 0, "r"), (2, 2, "R")):
        with pytest.raises(ValueError, match=r"n_relevant|k must|unknown"):
            average_precision(hit, n_relevant, k, cast("Denominator", denominator))
