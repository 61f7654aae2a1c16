from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike_retrieval import class_bootstrap, paired_class_bootstrap


def clustered(seed: int, classes: int, per_class: int, spread: float = 1.0) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Values that differ between classes and are alike inside one."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(classes), per_class)
    values = rng.normal(0, spread, classes)[codes] + rng.normal(0, 0.05, len(codes))
    return values, np.array([f"class {code}" for code in codes])


def test_interval_is_that_of_a_plain_loop_over_classes() -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(15, size=120)
    values = rng.random(120) + classes / 10
    names = np.unique(classes)
    means = []
    for _ in range(4000):
        drawn = np.concatenate([values[classes == name] for name in rng.choice(names, len(names))])
        means.append(drawn.mean())
    low, high = np.quantile(means, [0.025, 0.975])
    interval = class_bootstrap(values, classes, samples=4000)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(low, abs=0.03)
    assert interval.high == pytest.approx(high, abs=0.03)


def test_more_queries_of_the_same_classes_do_not_narrow_the_interval() -> None:
    few, many = (class_bootstrap(*clustered(0, 30, per_class)) for per_class in (2, 200))
    assert many.high - many.low == pytest.approx(few.high - few.low, rel=0.2)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(200):
        interval = class_bootstrap(*clustered(seed, 40, 5), samples=300)
        covered += interval.low <= 0 <= interval.high
    assert 0.88 <= covered / 200 <= 0.99


def test_pairs_are_compared_query_by_query() -> None:
    a, classes = clustered(0, 30, 4, spread=5.0)
    b = a + 0.1 + np.random.default_rng(1).normal(0, 0.01, len(a))
    interval = paired_class_bootstrap(a, b, classes)
    assert interval.mean == pytest.approx((b - a).mean())
    assert 0.09 < interval.low < interval.mean < interval.high < 0.11
    assert paired_class_bootstrap(b, a, classes).high < 0


def test_the_seed_decides_the_interval() -> None:
    values, classes = clustered(0, 20, 3)
    assert class_bootstrap(values, classes, seed=7) == class_bootstrap(values, classes, seed=7)
    assert class_bootstrap(values, classes, seed=7) != class_bootstrap(values, classes, seed=8)


def test_a_higher_level_gives_a_wider_interval() -> None:
    values, classes = clustered(0, 20, 3)
    narrow, wide = (class_bootstrap(values, classes, level=level) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_many_classes_are_drawn_in_parts_as_few_are() -> None:
    values = np.random.default_rng(0).random(3000)
    interval = class_bootstrap(values, np.arange(3000), samples=700)
    standard_error = values.std() / np.sqrt(3000)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * standard_error, rel=0.15)


@pytest.mark.parametrize(
    ("values", "classes", "options", "match"),
    [
        ([0.1, np.nan], ["a", "b"], {}, "value 1 is not finite"),
        ([0.1, 0.2], ["a", "a"], {}, "at least 2 classes"),
        ([], [], {}, "at least 2 classes"),
        ([0.1, 0.2], ["a"], {}, "1 classes do not fit"),
        ([0.1, 0.2], ["a", "b"], {"samples": 0}, "samples"),
        ([0.1, 0.2], ["a", "b"], {"level": 1.0}, "level"),
    ],
)
def test_values_without_an_interval_are_refused(values: list[float], classes: list[str], options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        class_bootstrap(np.array(values), np.array(classes), **options)


def test_pairs_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="same queries"):
        paired_class_bootstrap(np.zeros(2), np.zeros(3), np.array(["a", "b"]))
