from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lookalike_retrieval import VectorError, Weights, augment, augment_against, augment_blocks, dba_weights, normalise

KINDS: list[Weights] = ["equal", "linear", "rank"]


def random_vectors(seed: int, rows: int, dims: int = 6) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((rows, dims))


def plain_weights(k: int, kind: Weights) -> list[float]:
    return [{"equal": 1, "linear": (k + 1 - r) / (k + 1), "rank": 1 / (1 + r)}[kind] for r in range(k + 1)]


def plain_augmented(row: NDArray[np.float64], others: NDArray[np.float64], k: int, kind: Weights) -> NDArray[np.float64]:
    """The definition, in a loop, in float64."""
    own = row / np.linalg.norm(row)
    units = [other / np.linalg.norm(other) for other in others]
    nearest = sorted(units, key=lambda other: -float(own @ other))[:k]
    total = np.zeros_like(own)
    for weight, vector in zip(plain_weights(len(nearest), kind), [own, *nearest], strict=True):
        total = total + weight * vector
    return cast("NDArray[np.float64]", total / np.linalg.norm(total))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [0, 1, 3, 8])
def test_weights_are_those_of_the_formula(k: int, kind: Weights) -> None:
    weights = dba_weights(k, kind)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, plain_weights(k, kind), rtol=1e-7)


def test_linear_weights_for_three_neighbours_fall_by_quarters() -> None:
    assert dba_weights(3, "linear").tolist() == [1, 0.75, 0.5, 0.25]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 25), st.integers(0, 30), st.sampled_from(KINDS))
def test_augmented_rows_are_those_of_a_plain_loop(seed: int, rows: int, k: int, kind: Weights) -> None:
    vectors = random_vectors(seed, rows)
    augmented = augment(vectors, k, kind)
    assert augmented.dtype == np.float32
    for i in range(rows):
        expected = plain_augmented(vectors[i], np.delete(vectors, i, axis=0), k, kind)
        np.testing.assert_allclose(augmented[i], expected, atol=2e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(0, 20), st.integers(0, 25), st.sampled_from(KINDS))
def test_rows_outside_the_pool_take_their_neighbours_from_it(seed: int, rows: int, pool_rows: int, k: int, kind: Weights) -> None:
    vectors, pool = random_vectors(seed, rows), random_vectors(seed + 1, pool_rows)
    augmented = augment_against(normalise(vectors), normalise(pool), k, kind).rows
    for i in range(rows):
        np.testing.assert_allclose(augmented[i], plain_augmented(vectors[i], pool, k, kind), atol=2e-5)


def test_a_row_is_not_its_own_neighbour_even_when_it_has_copies() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    np.testing.assert_allclose(augment(vectors, 1, "equal"), normalise(np.array([[1.0, 0], [1, 0], [1, 1]])), atol=1e-6)


def test_the_length_of_the_input_does_not_matter() -> None:
    vectors = random_vectors(0, 30)
    scaled = vectors * np.linspace(0.1, 50, 30)[:, None]
    np.testing.assert_allclose(augment(scaled, 3), augment(vectors, 3), atol=1e-6)


def test_no_neighbours_give_a_unit_copy() -> None:
    vectors = random_vectors(0, 5)
    assert (augment(vectors, 0) == normalise(vectors)).all()


def test_opposite_vectors_keep_their_direction() -> None:
    vectors = np.array([[1, 0], [-1, 0]], np.float32)
    assert (augment(vectors, 1, "equal") == vectors).all()


def test_blocks_join_to_the_whole_set_and_progress_counts_rows() -> None:
    vectors = random_vectors(0, 1100)
    seen: list[tuple[int, int]] = []
    whole = augment(vectors, 3, progress=lambda done, total: seen.append((done, total)))
    blocks = list(augment_blocks(normalise(vectors), 3))
    assert len(blocks) == len(seen) > 1
    assert seen[-1] == (1100, 1100)
    assert (np.concatenate([block.rows for block in blocks]) == whole).all()
    assert [block.start for block in blocks] == [0, *(done for done, _ in seen[:-1])]


def test_a_set_of_none_or_one_has_no_neighbours() -> None:
    assert augment(np.empty((0, 4)), 3).shape == (0, 4)
    assert augment(np.array([[0.0, 2.0]]), 3).tolist() == [[0, 1]]


def test_bad_arguments_are_refused() -> None:
    vectors = random_vectors(0, 4)
    with pytest.raises(ValueError, match="not -1"):
        augment(vectors, -1)
    with pytest.raises(ValueError, match="unknown weights 'cubic'"):
        augment(vectors, 2, cast("Weights", "cubic"))
    vectors[2] = 0
    with pytest.raises(VectorError, match="row 2"):
        augment(vectors, 2)
