import tracemalloc
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lookalike_retrieval import (
    VectorError,
    Weights,
    augment,
    augment_against,
    augment_blocks,
    dba_weights,
    neighbour_weights,
    normalise,
    weighted_mean,
)

BY_RANK: list[Weights] = ["equal", "linear", "rank"]
KINDS: list[Weights] = [*BY_RANK, "power"]


def random_vectors(seed: int, rows: int, dims: int = 6) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((rows, dims))


def plain_weights(k: int, kind: Weights) -> list[float]:
    return [{"equal": 1, "linear": (k + 1 - r) / (k + 1), "rank": 1 / (1 + r)}[kind] for r in range(k + 1)]


def plain_augmented(row: NDArray[np.float64], others: NDArray[np.float64], k: int, kind: Weights, power: float = 3) -> NDArray[np.float64]:
    """The definition, in a loop, in float64."""
    own = row / np.linalg.norm(row)
    units = [other / np.linalg.norm(other) for other in others]
    nearest = sorted(units, key=lambda other: -float(own @ other))[:k]
    total = np.zeros_like(own)
    weights = [1, *(max(0.0, float(own @ unit)) ** power for unit in nearest)] if kind == "power" else plain_weights(len(nearest), kind)
    for weight, vector in zip(weights, [own, *nearest], strict=True):
        total = total + weight * vector
    return cast("NDArray[np.float64]", total / np.linalg.norm(total))


@pytest.mark.parametrize("kind", BY_RANK)
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
    whole = augment(vectors, 3, rounds=2, progress=lambda done, total: seen.append((done, total)))
    blocks = list(augment_blocks(normalise(vectors), 3, rounds=2))
    assert len(blocks) > 1
    assert seen == sorted(seen)
    assert {total for _, total in seen} == {2200}
    assert (1100, 2200) in seen
    assert seen[-1] == (2200, 2200)
    assert (np.concatenate([block.rows for block in blocks]) == whole).all()
    assert [block.start for block in blocks] == [0, *np.cumsum([len(block.rows) for block in blocks])[:-1]]


@pytest.mark.parametrize("kind", KINDS)
def test_each_round_augments_what_the_one_before_came_to_with_neighbours_found_anew(kind: Weights) -> None:
    vectors = random_vectors(3, 40)
    expected = vectors
    for rounds in (1, 2, 3):
        expected = np.array([plain_augmented(row, np.delete(expected, i, axis=0), 3, kind) for i, row in enumerate(expected)])
        np.testing.assert_allclose(augment(vectors, 3, kind, rounds=rounds), expected, atol=5e-5)


@pytest.mark.parametrize("power", [0.5, 1, 3])
def test_weights_by_similarity_are_its_power_and_nothing_for_what_lies_opposite(power: float) -> None:
    similarities = np.array([[1, 0.5, 0, -0.7]], np.float32)
    np.testing.assert_allclose(neighbour_weights(similarities, "power", power), [[1, 0.5**power, 0, 0]], rtol=1e-6)
    vectors = random_vectors(5, 12)
    for i, row in enumerate(augment(vectors, 4, "power", power=power)):
        expected = plain_augmented(vectors[i], np.delete(vectors, i, axis=0), 4, "power", power)
        np.testing.assert_allclose(row, expected, atol=2e-5)


def test_blocks_name_what_was_averaged_in_with_its_similarity() -> None:
    units = normalise(random_vectors(2, 700, 16))
    for block in augment_blocks(units, 3):
        own = np.arange(block.start, block.start + len(block.rows))
        assert block.neighbours.dtype == np.uint32
        assert block.similarities.dtype == np.float32
        assert block.neighbours.shape == block.similarities.shape == (len(own), 3)
        cosines = units[own].astype(np.float64) @ units.T.astype(np.float64)
        cosines[np.arange(len(own)), own] = -2
        np.testing.assert_array_equal(block.neighbours, np.argsort(-cosines, axis=1)[:, :3])
        np.testing.assert_allclose(block.similarities, -np.sort(-cosines, axis=1)[:, :3], atol=1e-6)
        rows = weighted_mean(units[own], units, block.neighbours, neighbour_weights(block.similarities, "linear"))
        assert (rows == block.rows).all()


def test_rounds_leave_no_file_behind(tmp_path: Path) -> None:
    units = normalise(random_vectors(0, 30))
    blocks = augment_blocks(units, 2, rounds=3, scratch=tmp_path)
    rows = [next(blocks).rows, *(block.rows for block in blocks)]
    assert (np.concatenate(rows) == augment(units, 2, rounds=3)).all()
    assert not list(tmp_path.iterdir())


def test_memory_is_a_few_tiles_beside_the_mapped_vectors(tmp_path: Path) -> None:
    shape = (6000, 512)
    with (tmp_path / "rows").open("wb") as file:
        file.write(normalise(np.random.default_rng(0).standard_normal(shape)).tobytes())
    units = np.memmap(tmp_path / "rows", np.float32, "r", shape=shape)
    tracemalloc.start()
    for _ in augment_blocks(units, 3, rounds=2, scratch=tmp_path):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6  # the matrix of all cosines would take 144e6


def test_a_set_of_none_or_one_has_no_neighbours() -> None:
    assert augment(np.empty((0, 4)), 3).shape == (0, 4)
    assert augment(np.array([[0.0, 2.0]]), 3).tolist() == [[0, 1]]


def test_bad_arguments_are_refused() -> None:
    vectors = random_vectors(0, 4)
    with pytest.raises(ValueError, match="not -1"):
        augment(vectors, -1)
    with pytest.raises(ValueError, match="unknown weights 'cubic'"):
        augment(vectors, 2, cast("Weights", "cubic"))
    with pytest.raises(ValueError, match="rounds must be at least 1, not 0"):
        augment(vectors, 2, rounds=0)
    for power in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="power must be above 0"):
            augment(vectors, 2, "power", power=power)
    with pytest.raises(ValueError, match="go by similarity"):
        dba_weights(2, "power")
    vectors[2] = 0
    with pytest.raises(VectorError, match="row 2"):
        augment(vectors, 2)
