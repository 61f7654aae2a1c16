"""The split is by class, by hash, and never leaves a class on both sides."""

import numpy as np
import pytest

from lookalike_trainer.training.split import split_classes

NAMES = [f"class {i}" for i in range(50)]


@pytest.mark.parametrize("seed", range(5))
def test_no_class_is_on_both_sides_and_none_is_lost(seed: int) -> None:
    split = split_classes(NAMES, np.full(50, 3), 0.2, seed)
    assert len(split.held_out) == 10
    assert not set(split.train) & set(split.held_out)
    assert set(split.train) | set(split.held_out) == set(range(50))


def test_the_choice_hangs_on_label_and_seed_alone() -> None:
    counts = np.full(50, 3)
    held_out = {NAMES[i] for i in split_classes(NAMES, counts, 0.2, 1).held_out}
    backwards = NAMES[::-1]
    assert held_out == {backwards[i] for i in split_classes(backwards, counts, 0.2, 1).held_out}
    assert held_out != {NAMES[i] for i in split_classes(NAMES, counts, 0.2, 2).held_out}


@pytest.mark.parametrize("classes", [2, 9])
def test_nothing_is_held_out_of_fewer_than_ten_classes(classes: int) -> None:
    assert split_classes(NAMES[:classes], np.full(classes, 3), 0.5, 0).held_out == ()


def test_between_three_and_a_hundred_classes_are_held_out() -> None:
    assert len(split_classes(NAMES[:10], np.full(10, 3), 0.01, 0).held_out) == 3
    many = [str(i) for i in range(3000)]
    assert len(split_classes(many, np.full(3000, 3), 0.2, 0).held_out) == 100
    assert split_classes(NAMES, np.full(50, 3), 0.0, 0).held_out == ()


def test_a_class_with_one_picture_is_never_held_out() -> None:
    counts = np.array([1, 3] * 25)
    for seed in range(5):
        assert all(counts[i] == 3 for i in split_classes(NAMES, counts, 0.2, seed).held_out)
