from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike_retrieval import Projection, VectorError, fit_pca, normalise


def stretched(seed: int, rows: int, dims: int = 12) -> NDArray[np.float32]:
    """Unit rows whose variance differs from direction to direction."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.standard_normal((dims, dims)))
    return normalise((rng.standard_normal((rows, dims)) * np.geomspace(4, 0.1, dims)) @ turn + 1)


def test_components_are_orthonormal_and_keep_the_largest_variance() -> None:
    vectors = stretched(0, 400).astype(np.float64)
    projection = fit_pca(vectors.astype(np.float32), 5)
    np.testing.assert_allclose(projection.components @ projection.components.T, np.eye(5), atol=1e-5)
    np.testing.assert_allclose(projection.mean, vectors.mean(axis=0), atol=1e-6)
    centred = vectors - vectors.mean(axis=0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.linalg.norm(centred @ projection.components.T, axis=0), singular[:5], rtol=1e-4)
    np.testing.assert_allclose(np.abs(np.sum(projection.components * directions[:5], axis=1)), 1, atol=1e-4)


def test_applied_rows_are_the_centred_projection_with_length_one() -> None:
    vectors = stretched(0, 60)
    projection = fit_pca(vectors, 3)
    applied = projection.apply(vectors)
    assert applied.dtype == np.float32
    for row, result in zip(vectors, applied, strict=True):
        plain = np.array([np.sum((row - projection.mean) * component) for component in projection.components])
        np.testing.assert_allclose(result, plain / np.linalg.norm(plain), atol=1e-5)


def test_fitting_again_gives_the_same_and_signs_are_fixed() -> None:
    vectors = stretched(0, 300)
    first, second = fit_pca(vectors, 4, seed=1, max_rows=100), fit_pca(vectors, 4, seed=1, max_rows=100)
    assert (first.components == second.components).all()
    largest = np.abs(first.components).argmax(axis=1)
    assert (first.components[np.arange(4), largest] > 0).all()


def test_only_max_rows_are_used_and_the_seed_chooses_them() -> None:
    vectors = stretched(0, 300)
    means = [fit_pca(vectors, 2, seed=seed, max_rows=50).mean for seed in (0, 1)]
    assert not np.array_equal(means[0], means[1])
    assert not np.array_equal(means[0], fit_pca(vectors, 2).mean)


def test_memory_mapped_vectors_are_projected_as_arrays_are(tmp_path: Path) -> None:
    vectors = stretched(0, 120)
    mapped = np.memmap(tmp_path / "vectors", np.float32, "w+", shape=vectors.shape)
    mapped[:] = vectors
    projection = fit_pca(mapped, 3, max_rows=80)
    assert (projection.apply(mapped) == fit_pca(vectors, 3, max_rows=80).apply(vectors)).all()


def test_a_row_equal_to_the_mean_has_no_direction() -> None:
    projection = Projection(np.array([1, 0], np.float32), np.eye(2, dtype=np.float32))
    with pytest.raises(VectorError, match="row 1"):
        projection.apply(np.array([[0, 1], [1, 0]], np.float32))


def test_bad_arguments_are_refused() -> None:
    vectors = stretched(0, 8)
    for dims in (0, 8, 13):
        with pytest.raises(ValueError, match=rf"1 … 7 .* not {dims}"):
            fit_pca(vectors, dims)
    with pytest.raises(ValueError, match="alike"):
        fit_pca(np.repeat(vectors[:1], 8, axis=0), 2)
    rounded = np.repeat(vectors[:1], 8, axis=0)
    rounded[3] = np.nextafter(rounded[3], np.float32(1))
    with pytest.raises(ValueError, match="alike"):
        fit_pca(rounded, 2)
    with pytest.raises(ValueError, match="not finite"):
        fit_pca(np.where(vectors == vectors[3, 3], np.nan, vectors).astype(np.float32), 2)
    with pytest.raises(ValueError, match="5 dimensions, the projection takes 12"):
        fit_pca(vectors, 2).apply(np.ones((2, 5), np.float32))
