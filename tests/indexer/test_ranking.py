from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike_indexer._ranking import best, exact_scores
from lookalike_retrieval import normalise

NOTHING = np.empty((0, 8), np.float32)


def units(count: int, dim: int = 8, seed: int = 0) -> NDArray[np.float32]:
    return normalise(np.random.default_rng(seed).standard_normal((count, dim)))


@pytest.mark.parametrize("dim", [1, 2, 7, 8, 9, 16, 31, 32, 33, 40, 64, 100, 1_280, 2_048])
@pytest.mark.parametrize("pictures", [1, 3])
def test_scores_are_the_best_products_in_float64(dim: int, pictures: int) -> None:
    rows, query = units(50, dim, 1), units(pictures, dim, 2)
    products = rows.astype(np.float64) @ query.T.astype(np.float64)
    scores = exact_scores(rows, query)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, products.max(axis=1), rtol=0, atol=6e-8)
    ((places, found),) = best(rows, np.empty((0, dim), np.float32), [np.arange(50)], query, [pictures], 50)
    assert found == scores[places].tolist()


def test_scores_stay_between_minus_one_and_one() -> None:
    rows = 1.5 * np.eye(8, dtype=np.float32)
    assert exact_scores(np.vstack([rows, -rows]), rows[:1]).tolist() == [1.0] + 7 * [0.0] + [-1.0] + 7 * [0.0]


def test_equal_rows_tie_wherever_they_lie() -> None:
    rows = np.repeat(units(1, 1_283), 97, axis=0)
    for query in units(20, 1_283, 3):
        assert len(set(exact_scores(rows, query[None]).tolist())) == 1
        ((places, scores),) = best(rows[:41], rows[41:], [np.arange(97)], query[None], [1], 1)
        assert (places, len(set(scores))) == (list(range(97)), 1)


@pytest.mark.parametrize("k", [1, 4, 5, 19, 20, 30])
def test_the_best_are_those_of_a_sort_with_all_that_tie_with_the_last(k: int) -> None:
    vectors = units(12)[np.random.default_rng(1).integers(0, 12, 40)]
    built, fresh = vectors[:25], vectors[25:]
    places = np.random.default_rng(2).permutation(40)[:20]
    query = units(2, seed=5)
    scores = exact_scores(vectors, query)
    wanted = sorted(places.tolist(), key=lambda place: (-scores[place], place))
    wanted = [place for place in wanted if scores[place] >= scores[wanted[min(k, 20) - 1]]]
    assert best(built, fresh, [places], query, [2], k) == [(wanted, scores[wanted].tolist())]


def test_each_query_has_its_own_pictures_and_places() -> None:
    vectors, pictures, sizes = units(40), units(6, seed=5), [1, 2, 3]
    places = [np.arange(30), np.arange(0), np.arange(7, 40)]
    together = best(vectors[:25], vectors[25:], places, pictures, sizes, 4)
    alone = [
        best(vectors[:25], vectors[25:], places[at : at + 1], pictures[start : start + size], [size], 4)[0]
        for at, (start, size) in enumerate(zip((0, 1, 3), sizes, strict=True))
    ]
    assert together == alone
    assert best(vectors, NOTHING, [], pictures[:0], [], 4) == []


def test_no_place_is_no_answer() -> None:
    assert best(units(3), NOTHING, [np.empty(0, np.int64)], units(1), [1], 10) == [([], [])]


@pytest.mark.parametrize("place", [-1, 5])
def test_a_place_that_is_nowhere_is_refused(place: int) -> None:
    with pytest.raises(IndexError, match="neither a row nor a slot"):
        best(units(3), units(2), [np.array([0, place])], units(1), [1], 1)


@pytest.mark.parametrize("pictures", [units(1, 7), units(1)[:0], units(1)[0]])
def test_pictures_that_do_not_fit_are_refused(pictures: NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match="pictures"):
        exact_scores(units(3), pictures)
    with pytest.raises(ValueError, match="pictures"):
        best(units(3), NOTHING, [np.array([0])], pictures, [1], 1)
    with pytest.raises(ValueError, match="pictures"):
        best(units(3), units(2, 7), [np.array([0])], units(1), [1], 1)


def test_rows_are_never_copied_to_fit() -> None:
    with pytest.raises(TypeError):
        exact_scores(units(3).astype(np.float64), units(1))
    with pytest.raises(TypeError):
        best(np.asfortranarray(units(3)), NOTHING, [np.array([0])], units(1), [1], 1)


@pytest.mark.parametrize(("queries", "sizes"), [(1, [2]), (1, []), (2, [1]), (1, [1, 1]), (2, [0, 1])])
def test_sizes_that_do_not_fit_are_refused(queries: int, sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="a size for each query"):
        best(units(3), NOTHING, [np.array([0])] * queries, units(1), sizes, 1)
