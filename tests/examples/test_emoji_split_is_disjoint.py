"""The test classes are never given to the trainer: checked on the pictures themselves."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from examples.emoji import dataset

# Two vendors draw the emoji `cricket-game` (test) as others draw `cricket` (training): the same pixels under two names.
SAME_DRAWING = {"queries/cricket-game/emojione.png", "references/cricket-game/noto-v1.png"}

# Fetching gives up by itself after ten minutes, and then there is nothing to check.
pytestmark = pytest.mark.timeout(700)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Path(__file__).parents[2] / "out" / "demo" / "data"
    if not dataset.is_present(made, dataset.DEFAULT_SIZE):
        made = tmp_path_factory.mktemp("emoji") / "data"
        try:
            dataset.make(made, dataset.DEFAULT_SIZE)
        except dataset.DatasetError as error:
            pytest.skip(f"the drawings cannot be fetched: {error}")
    return made


def test_no_test_class_and_no_test_picture_is_in_the_training_folder(data: Path) -> None:
    train, test = (set((data / side).rglob("*.png")) for side in ("train", "test"))
    assert len(train) == 4900
    assert len(test) == 706 + 1765
    assert not {p.parent.name for p in train} & {p.parent.name for p in test}
    trained_on = {hashlib.sha256(p.read_bytes()).digest() for p in train}
    shared = {p.relative_to(data / "test").as_posix() for p in test if hashlib.sha256(p.read_bytes()).digest() in trained_on}
    assert shared == SAME_DRAWING
