"""One vector is projected as a plain product projects it, within what 16 bits tell."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike_indexer.candidates._components import Components
from lookalike_retrieval import normalise

OFFSET = np.linspace(-0.5, 0.5, 40, dtype=np.float32)


def units(count: int, dim: int, seed: int = 3) -> NDArray[np.float32]:
    return normalise(np.random.default_rng(seed).standard_normal((count, dim)))


@pytest.mark.parametrize("dim", [1, 7, 16, 100, 2_048, 16_384])
def test_coordinates_are_those_of_a_plain_product(dim: int) -> None:
    components, vectors = units(40, dim), units(20, dim, seed=4)
    projection = Components(components, OFFSET)
    for vector in vectors:
        for dims in (1, 17, 40):
            projected = projection.project(vector[None], dims)
            assert projected.shape == (1, dims)
            np.testing.assert_allclose(projected[0], components[:dims] @ vector - OFFSET[:dims], atol=1e-3)


def test_one_number_may_have_all_of_a_length() -> None:
    axes = np.vstack([np.eye(40, dtype=np.float32)[:20], -np.eye(40, dtype=np.float32)[20:]])
    projection = Components(axes, OFFSET)
    for vector in (axes[3], axes[-3], -axes[3]):
        np.testing.assert_allclose(projection.project(vector[None], 40)[0], axes @ vector - OFFSET, atol=1e-3)


def test_what_would_not_fit_the_bits_is_refused() -> None:
    components = units(40, 8)
    projection = Components(components, OFFSET)
    nan, infinite = units(1, 8), units(1, 8)
    nan[0, 3], infinite[0, 3] = np.nan, np.inf
    for vector in (2 * units(1, 8), nan, infinite):
        with pytest.raises(ValueError, match="length one"):
            projection.project(vector, 4)
        with pytest.raises(ValueError, match="length one"):
            Components(np.vstack([vector, components[1:]]), OFFSET)


def test_misfits_are_refused() -> None:
    projection = Components(units(40, 8), OFFSET)
    for vectors, dims in ((units(2, 8), 4), (units(1, 9), 4), (units(1, 8), 41)):
        with pytest.raises(ValueError, match="must be"):
            projection.project(vectors, dims)
    for components, offset in ((units(40, 8), OFFSET[1:]), (units(40, 8)[0], OFFSET), (units(40, 8), OFFSET[None])):
        with pytest.raises(ValueError, match="must be"):
            Components(components, offset)
