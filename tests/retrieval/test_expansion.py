import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike_retrieval import VectorError, expand_query, normalise


def plain_expansion(query: list[float], neighbours: list[list[float]], alpha: float) -> list[float]:
    """The definition, in loops."""
    total = list(query)
    for neighbour in neighbours:
        cosine = sum(a * b for a, b in zip(query, neighbour, strict=True))
        weight = 1.0 if alpha == 0 else max(0.0, cosine) ** alpha
        total = [a + weight * b for a, b in zip(total, neighbour, strict=True)]
    length = math.sqrt(sum(a * a for a in total))
    return [a / length for a in total]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 12), st.sampled_from([0.0, 0.5, 1.0, 3.0, 20.0]), st.sampled_from([np.float32, np.float64]))
def test_an_expanded_query_is_that_of_a_plain_loop(seed: int, count: int, alpha: float, dtype: Any) -> None:
    rng = np.random.default_rng(seed)
    query = normalise(rng.standard_normal((1, 5)))[0].astype(dtype)
    neighbours = normalise(rng.standard_normal((count, 5)) + query).astype(dtype)
    expanded = expand_query(query, neighbours, alpha)
    assert expanded.dtype == np.float32
    np.testing.assert_allclose(expanded, plain_expansion(query.tolist(), neighbours.tolist(), alpha), atol=2e-6)


def test_a_query_without_neighbours_stays_as_it_is() -> None:
    query = normalise(np.array([[3.0, 4.0]]))[0]
    np.testing.assert_array_equal(expand_query(query, np.empty((0, 2), np.float32), 3), query)


def test_neighbours_on_the_other_side_count_only_where_all_count_alike() -> None:
    query, opposite = np.array([1.0, 0.0]), normalise(np.array([[-1.0, 1.0]]))
    np.testing.assert_allclose(expand_query(query, opposite, 1.0), query)
    np.testing.assert_allclose(expand_query(query, opposite), normalise((query + opposite[0])[None])[0], atol=1e-6)


def test_a_mean_that_vanishes_leaves_the_query() -> None:
    np.testing.assert_array_equal(expand_query(np.array([1.0, 0.0]), np.array([[-1.0, 0.0]])), [1, 0])


def test_what_cannot_be_expanded_is_refused() -> None:
    ones = np.ones((2, 3))
    with pytest.raises(VectorError):
        expand_query(np.zeros(3), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="shape"):
        expand_query(np.ones(4), ones)
    with pytest.raises(ValueError, match="shape"):
        expand_query(np.ones(3), np.ones(3))
    for alpha in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="alpha"):
            expand_query(np.ones(3), ones, alpha)
