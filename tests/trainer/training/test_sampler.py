"""P × K batches."""

from collections import Counter

import numpy as np
import pytest

from lookalike_trainer.training.sampler import ClassBalancedSampler


def sampler(sizes: list[int], classes: int, pictures: int) -> tuple[ClassBalancedSampler, np.ndarray]:
    """A sampler over classes of these sizes, and the class of each row."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rows = {label: np.flatnonzero(labels == label).astype(np.int64) for label in range(len(sizes))}
    return ClassBalancedSampler(rows, classes, pictures), labels


def test_a_batch_has_p_classes_of_k_pictures() -> None:
    balanced, labels = sampler([7] * 20, 8, 4)
    for epoch in range(3):
        for batch in balanced.epoch(1, epoch):
            counts = Counter(labels[batch].tolist())
            assert len(counts) == 8
            assert set(counts.values()) == {4}
            assert len(set(batch.tolist())) == len(batch)


def test_an_epoch_shows_as_many_pictures_as_there_are_and_classes_evenly() -> None:
    balanced, labels = sampler([6] * 16, 8, 3)
    batches = balanced.epoch(0, 0)
    assert sum(map(len, batches)) == 96
    assert set(Counter(labels[np.concatenate(batches)].tolist()).values()) == {6}
    assert set(np.concatenate(batches).tolist()) == set(range(96))


def test_the_same_seed_and_epoch_give_the_same_batches_and_others_do_not() -> None:
    balanced, _ = sampler([5] * 12, 4, 2)
    again = [np.array_equal(a, b) for a, b in zip(balanced.epoch(3, 2), balanced.epoch(3, 2), strict=True)]
    assert all(again)
    for other in (balanced.epoch(3, 1), balanced.epoch(4, 2)):
        assert not np.array_equal(np.concatenate(balanced.epoch(3, 2)), np.concatenate(other))


def test_a_small_class_repeats_its_pictures_and_a_single_one_is_never_a_pair() -> None:
    balanced, labels = sampler([2, 1, 1, 8, 8, 8], 4, 4)
    for epoch in range(4):
        for batch in balanced.epoch(0, epoch):
            counts = Counter(labels[batch].tolist())
            assert len(batch) == balanced.batch_size == 16
            assert all(counts[single] <= 1 for single in (1, 2))


@pytest.mark.parametrize("sizes", [[1, 1], [1, 3], [2, 2], [1, 1, 1, 1, 1]])
def test_tiny_sets_make_batches_too(sizes: list[int]) -> None:
    balanced, _ = sampler(sizes, 32, 4)
    assert all(len(batch) == balanced.batch_size for batch in balanced.epoch(0, 0))
