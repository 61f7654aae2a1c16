import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lookalike_retrieval import VectorError, exact_topk, exact_topk_blocks, normalise

Vectors = NDArray[np.float32]


def units(seed: int, rows: int, dims: int = 24) -> Vectors:
    return normalise(np.random.default_rng(seed).standard_normal((rows, dims)))


def plain_ranking(query: Vectors, references: Vectors, k: int, excluded: int = -1) -> list[int]:
    """The definition, in a loop: each pair by itself in float64, rounded to float32, ties by row."""
    scored = []
    for row, reference in enumerate(references):
        if row != excluded:
            score = np.float32(np.sum(query.astype(np.float64) * reference.astype(np.float64)))
            scored.append((-score, row))
    return [row for _, row in sorted(scored)[:k]]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    queries=st.integers(1, 9),
    references=st.integers(1, 60),
    distinct=st.integers(1, 60),
    k=st.integers(1, 70),
    tile=st.tuples(st.integers(1, 10), st.integers(1, 70)),
    with_exclude=st.booleans(),
)
def test_ranking_is_that_of_a_plain_loop_with_many_equal_rows(
    seed: int, queries: int, references: int, distinct: int, k: int, tile: tuple[int, int], with_exclude: bool
) -> None:
    rng = np.random.default_rng(seed)
    r = units(seed, distinct)[rng.integers(distinct, size=references)]
    q = units(seed + 1, queries)
    exclude = rng.integers(-1, references, size=queries) if with_exclude else None
    top = exact_topk(q, r, k, tile=tile, exclude=exclude)
    assert top.indices.shape == top.scores.shape == (queries, min(k, references - with_exclude))
    for i in range(queries):
        expected = plain_ranking(q[i], r, top.indices.shape[1], -1 if exclude is None else int(exclude[i]))
        assert top.indices[i].tolist() == expected
        np.testing.assert_allclose(top.scores[i], r[expected] @ q[i], atol=1e-6)


def test_answers_have_the_promised_types() -> None:
    top = exact_topk(units(0, 3), units(1, 9), 4)
    assert top.indices.dtype == np.uint32
    assert top.scores.dtype == np.float32


@pytest.mark.parametrize("copies", [40, 3000])
def test_copies_of_one_vector_tie_exactly_and_stand_in_row_order(copies: int) -> None:
    """Wide vectors and default tiles: here a matrix product alone gives copies different last bits."""
    references = units(0, 5000, 512)
    rows = np.sort(np.random.default_rng(1).permutation(5000)[:copies])
    references[rows] = references[rows[0]]
    queries = normalise(references[rows[0]] + 0.5 * units(2, 40, 512))
    top = exact_topk(queries, references, 30)
    assert (top.indices == rows[:30]).all()
    assert (top.scores == top.scores[:, :1]).all()


def test_ties_at_the_last_place_are_broken_by_row() -> None:
    best, tied = np.eye(2, dtype=np.float32)
    references = np.stack([tied] * 50 + [best] + [tied] * 50)
    top = exact_topk(normalise(np.array([[0.9, 0.1]])), references, 3, tile=(1, 7))
    assert top.indices.tolist() == [[50, 0, 1]]


def test_a_query_ranks_alone_as_it_does_in_a_batch() -> None:
    references = units(0, 3000, 256)[np.random.default_rng(1).integers(1500, size=3000)]
    queries = units(2, 37, 256)
    batch = exact_topk(queries, references, 100).indices
    for i in (0, 17, 36):
        assert (exact_topk(queries[i : i + 1], references, 100).indices[0] == batch[i]).all()


def test_repeating_a_search_gives_the_same_bytes() -> None:
    queries, references = units(0, 700), units(1, 5000)
    first, second = (exact_topk(queries, references, 20) for _ in range(2))
    assert first.indices.tobytes() == second.indices.tobytes()
    assert first.scores.tobytes() == second.scores.tobytes()


@pytest.mark.parametrize("tile", [(3, 100), (256, 5000), (1000, 1111)])
def test_other_tiles_give_the_same_scores_and_the_same_order_outside_of_ties(tile: tuple[int, int]) -> None:
    queries, references = units(0, 300, 128), units(1, 5000, 128)
    usual, other = exact_topk(queries, references, 200), exact_topk(queries, references, 200, tile=tile)
    np.testing.assert_allclose(usual.scores, other.scores, atol=1e-6)
    differ = usual.indices != other.indices
    near = np.zeros(differ.shape, np.bool_)
    near[:, 1:] = usual.scores[:, :-1] - usual.scores[:, 1:] <= 1e-6
    near[:, :-1] |= near[:, 1:]
    assert not (differ & ~near).any()


def test_an_excluded_reference_never_appears_even_when_all_are_asked_for() -> None:
    vectors = units(0, 30)
    top = exact_topk(vectors, vectors, 99, exclude=np.arange(30))
    assert top.indices.shape == (30, 29)
    for i, row in enumerate(top.indices):
        assert sorted(row) == [r for r in range(30) if r != i]


def test_without_an_exclusion_of_its_own_a_query_gets_its_best() -> None:
    vectors = units(0, 5)
    top = exact_topk(vectors[:2], vectors, 5, exclude=np.array([-1, 1]))
    assert top.indices[0].tolist() == plain_ranking(vectors[0], vectors, 4)


def test_blocks_join_to_the_whole_ranking() -> None:
    queries, references = units(0, 23), units(1, 50)
    exclude = np.arange(23)
    whole = exact_topk(queries, references, 7, exclude=exclude)
    blocks = list(exact_topk_blocks(queries, references, 7, tile=(5, 16), exclude=exclude))
    assert [block.start for block in blocks] == [0, 5, 10, 15, 20]
    assert (np.concatenate([block.top.indices for block in blocks]) == whole.indices).all()


def test_memory_mapped_vectors_rank_as_arrays_do(tmp_path: Path) -> None:
    vectors = units(0, 200)
    mapped = np.memmap(tmp_path / "vectors", np.float32, "w+", shape=vectors.shape)
    mapped[:] = vectors
    assert (exact_topk(mapped, mapped, 5).indices == exact_topk(vectors, vectors, 5).indices).all()


def test_memory_does_not_grow_with_the_square_of_the_rows() -> None:
    vectors = units(0, 8000, 8)
    tracemalloc.start()
    exact_topk(vectors, vectors, 3, tile=(64, 512))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8e6  # the matrix of all scores would take 256e6


def test_progress_counts_the_queries_done() -> None:
    seen: list[tuple[int, int]] = []
    exact_topk(units(0, 12), units(1, 5), 2, tile=(5, 5), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(5, 12), (10, 12), (12, 12)]


@pytest.mark.parametrize(("queries", "references", "exclude"), [(0, 4, False), (3, 0, False), (1, 1, True)])
def test_nothing_to_rank_is_an_empty_answer(queries: int, references: int, exclude: bool) -> None:
    top = exact_topk(units(0, queries), units(1, references), 3, exclude=np.zeros(queries, np.int64) if exclude else None)
    assert top.indices.shape == (queries, 3 if references > 1 else 0)


@pytest.mark.parametrize(("side", "match"), [(0, "query row 6"), (1, "reference row 6")])
def test_a_value_that_is_not_finite_is_refused_by_row(side: int, match: str) -> None:
    pair = [units(0, 8), units(1, 8)]
    pair[side][6, 3] = np.nan
    with pytest.raises(VectorError, match=match):
        exact_topk(pair[0], pair[1], 2, tile=(4, 4))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"k": 0}, "k must be at least 1, not 0"),
        ({"tile": (0, 4)}, "tile"),
        ({"exclude": np.zeros(3, np.int64)}, "each of 2 queries"),
        ({"exclude": np.array([0, 4])}, "-1 … 3"),
        ({"exclude": np.array([0, -2])}, "-1 … 3"),
        ({"queries": units(0, 2, 5)}, "5 dimensions, references 24"),
        ({"queries": units(0, 1)[0]}, "rows, dimensions"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change: dict[str, Any], match: str) -> None:
    arguments: dict[str, Any] = {"queries": units(0, 2), "references": units(1, 4), "k": 2} | change
    with pytest.raises(ValueError, match=match):
        exact_topk(**arguments)
    with pytest.raises(ValueError, match=match):
        exact_topk_blocks(**arguments)
