import numpy as np
import pytest

from lookalike_retrieval import VectorError, normalise


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_have_length_one_and_keep_their_direction(dtype: type[np.floating]) -> None:
    vectors = np.random.default_rng(0).standard_normal((2500, 7)).astype(dtype)
    units = normalise(vectors)
    assert units.dtype == np.float32
    for row, unit in zip(vectors.astype(np.float64), units, strict=True):
        np.testing.assert_allclose(unit, row / np.sqrt(sum(x * x for x in row)), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        *((np.float64, scale) for scale in (1e-300, 1e-40, 1e30, 1e300)),
        *((np.float32, scale) for scale in (1e-38, 1e37)),
        *((np.float16, scale) for scale in (1e-4, 1e4)),
    ],
)
def test_very_small_and_very_large_rows_have_a_direction(dtype: type[np.floating], scale: float) -> None:
    vectors = (np.array([[3.0, 4.0]]) * scale).astype(dtype)
    np.testing.assert_allclose(normalise(vectors), [[0.6, 0.8]], rtol=1e-6 if dtype != np.float16 else 1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("bad", "reason"), [(0.0, "zero"), (np.nan, "not finite"), (np.inf, "not finite"), (-np.inf, "not finite")])
def test_a_row_without_direction_is_refused_by_number(bad: float, reason: str, dtype: type[np.floating]) -> None:
    vectors = np.ones((3000, 4), dtype)
    vectors[2100] = bad
    with pytest.raises(VectorError, match=rf"row 2100: .*{reason}") as caught:
        normalise(vectors)
    assert caught.value.row == 2100
    assert isinstance(caught.value, ValueError)


def test_one_value_that_is_not_finite_is_enough_to_refuse_a_row() -> None:
    vectors = np.ones((2, 4), np.float32)
    vectors[1, 2] = np.nan
    with pytest.raises(VectorError, match="row 1"):
        normalise(vectors)


def test_the_input_is_left_as_it_was() -> None:
    vectors = np.full((2, 2), 5.0, np.float32)
    normalise(vectors)
    assert (vectors == 5).all()


def test_no_rows_are_no_error() -> None:
    assert normalise(np.empty((0, 3), np.float32)).shape == (0, 3)


@pytest.mark.parametrize("shape", [(3,), (3, 0), (1, 2, 3)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="rows, dimensions"):
        normalise(np.ones(shape, np.float32))
