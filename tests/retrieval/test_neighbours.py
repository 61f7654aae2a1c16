import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike_retrieval import VectorError, exact_topk, normalise
from lookalike_retrieval.neighbours import nearest_others
from tests.retrieval.test_topk import plain_ranking, units


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(2, 60),
    distinct=st.integers(1, 60),
    k=st.integers(1, 59),
    tile=st.integers(1, 70),
)
def test_neighbours_are_those_of_a_plain_loop_with_many_equal_rows(seed: int, rows: int, distinct: int, k: int, tile: int) -> None:
    vectors = units(seed, distinct)[np.random.default_rng(seed).integers(distinct, size=rows)]
    nearest = nearest_others(vectors, min(k, rows - 1), tile=tile)
    for own in range(rows):
        expected = plain_ranking(vectors[own], vectors, nearest.indices.shape[1], own)
        assert nearest.indices[own].tolist() == expected
        np.testing.assert_allclose(nearest.scores[own], vectors[expected] @ vectors[own], atol=1e-6)


@pytest.mark.parametrize("copies", [40, 1500])
def test_copies_stand_in_row_order_as_in_a_search_of_the_set_against_itself(copies: int) -> None:
    vectors = units(0, 2500, 256)
    vectors[np.random.default_rng(1).permutation(2500)[:copies]] = vectors[0]
    nearest = nearest_others(vectors, 5)
    expected = exact_topk(vectors, vectors, 5, exclude=np.arange(2500))
    assert (nearest.indices == expected.indices).all()
    np.testing.assert_allclose(nearest.scores, expected.scores, atol=1e-6)


def test_repeating_it_gives_the_same_bytes_and_other_tiles_the_same_neighbours() -> None:
    vectors = units(0, 3000, 64)
    first, second, other = nearest_others(vectors, 3), nearest_others(vectors, 3), nearest_others(vectors, 3, tile=700)
    assert first.indices.tobytes() == second.indices.tobytes()
    assert first.scores.tobytes() == second.scores.tobytes()
    assert (first.indices == other.indices).all()
    np.testing.assert_allclose(first.scores, other.scores, atol=1e-6)


def test_a_value_that_is_not_finite_is_refused_by_row() -> None:
    vectors = normalise(np.random.default_rng(0).standard_normal((30, 4)))
    vectors[17, 2] = np.inf
    with pytest.raises(VectorError, match="row 17"):
        nearest_others(vectors, 3, tile=8)
