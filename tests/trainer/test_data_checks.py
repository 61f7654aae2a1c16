"""What the data checks find, against plain loops and planted errors."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from lookalike_trainer.data_checks import findings
from lookalike_trainer.data_checks.alike_classes import alike_classes
from lookalike_trainer.data_checks.findings import Suspect, describe_both_sides, on_both_sides
from lookalike_trainer.data_checks.label_noise import doubt_labels
from lookalike_trainer.data_checks.suspects_csv import suspects_csv
from lookalike_trainer.manifest_findings import class_sizes, inspect_manifest
from lookalike_trainer.training.dataset import Picture


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), dtype=np.float32)


def clusters(classes: int, pictures: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, 16))
    labels = np.repeat(np.arange(classes), pictures)
    return unit(centres[labels] + 0.3 * random.normal(size=(len(labels), 16))), labels.astype(np.int64)


def test_doubt_is_the_margin_between_class_means_without_the_picture_itself() -> None:
    vectors, labels = clusters(5, 4)
    labels[3] = 2
    doubt = doubt_labels(vectors, labels, 5)
    for row, (vector, label) in enumerate(zip(vectors, labels, strict=True)):
        others = np.arange(len(labels)) != row
        means = {c: unit(vectors[(labels == c) & others].sum(axis=0)) for c in range(5)}
        alike = {c: float(mean @ vector) for c, mean in means.items()}
        own = alike.pop(int(label))
        assert doubt.score[row] == pytest.approx(max(alike.values()) - own, abs=1e-5)
        assert doubt.suspected[row] == max(alike, key=lambda c: alike[c])


def test_planted_wrong_labels_are_listed_first() -> None:
    vectors, labels = clusters(40, 6)
    random = np.random.default_rng(1)
    planted = random.choice(len(labels), 7, replace=False)
    true = labels[planted].copy()
    labels[planted] = (true + 1) % 40
    doubt = doubt_labels(vectors, labels, 40)
    assert set(np.argsort(-doubt.score)[:7]) == set(planted)
    assert (doubt.suspected[planted] == true).all()


def test_of_a_picture_that_is_alone_in_its_class_nothing_is_said() -> None:
    vectors, labels = clusters(3, 4)
    labels[0] = 3
    assert doubt_labels(vectors, labels, 4).score[0] == -np.inf


def test_classes_that_look_like_one_are_found_and_others_are_not() -> None:
    vectors, labels = clusters(8, 6)
    split = labels.copy()
    split[(labels == 2) & (np.arange(len(labels)) % 2 == 0)] = 8
    pairs = alike_classes(vectors, split, 9, 10)
    assert (pairs[0].first, pairs[0].second) == (2, 8)
    first, second = vectors[split == 2], vectors[split == 8]
    assert pairs[0].between == pytest.approx(float((first @ second.T).mean()), abs=1e-5)
    off = ~np.eye(3, dtype=bool)
    assert pairs[0].within == pytest.approx(np.mean([(each @ each.T)[off].mean() for each in (first, second)]), abs=1e-5)
    assert not alike_classes(vectors, labels, 8, 10)


def picture(path: str, sha256: str) -> Picture:
    return Picture(path, path.split("/")[0], sha256)


def test_a_manifest_shows_sizes_small_classes_and_copies() -> None:
    pictures = [picture(f"a/{n}", f"a{n}") for n in range(5)] + [
        picture("b/0", "a0"),
        picture("c/0", "c"),
        picture("c/1", "c"),
        picture("c/2", "d"),
    ]
    found = inspect_manifest(pictures)
    assert [(bar.fewest, bar.most, bar.classes) for bar in found.sizes] == [(1, 1, 1), (2, 2, 0), (3, 4, 1), (5, 9, 1)]
    assert [(each.label, each.pictures) for each in found.small] == [("b", 1)]
    assert [(each.paths, each.across) for each in found.copies] == [(("a/0", "b/0"), True), (("c/0", "c/1"), False)]
    assert found.copy_count == 2


def test_a_histogram_counts_every_class_once() -> None:
    counts = [1, 2, 3, 7, 20, 999, 1_000_000]
    assert sum(bar.classes for bar in class_sizes(counts)) == len(counts)
    assert class_sizes([]) == ()


def test_a_picture_on_both_sides_of_the_split_is_said() -> None:
    pictures = [picture("a/0", "1"), picture("b/0", "1"), picture("b/1", "2"), picture("b/2", "2"), picture("c/0", "3")]
    groups = on_both_sides(pictures, ["b"])
    assert [group.paths for group in groups] == [("a/0", "b/0")]
    assert "a/0 = b/0" in str(describe_both_sides(groups))
    assert describe_both_sides(on_both_sides(pictures, ["c"])) is None


def test_the_list_is_a_csv_in_any_script() -> None:
    suspect = Suspect(path='写真/"ä", β.png', label="写真", suspected_label="собака", score=0.5, reason="a, b")
    (row,) = csv.DictReader(io.StringIO(suspects_csv([suspect])))
    assert row == {"path": '写真/"ä", β.png', "label": "写真", "suspected_label": "собака", "score": "0.5", "reason": "a, b"}


def test_of_classes_that_are_well_apart_no_label_is_doubted() -> None:
    vectors, labels = clusters(4, 5)
    pictures = [picture(f"{label}/{row}", str(row)) for row, label in enumerate(labels)]
    assert findings._suspects(pictures, "abcd", labels, vectors) == ()
