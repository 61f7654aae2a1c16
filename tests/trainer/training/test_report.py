"""What a job leaves to be looked at."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c  # noqa: F401, says that these are TensorBoard's records

from lookalike_model.bundle import read_bundle
from lookalike_trainer.report.ranking import Ranking

from .conftest import ShapeDataset

JobFolder = Callable[..., Path]
Work = Callable[[Path], int]


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """The figures in a folder's event files, by name and step; a record is its length, a checksum, its bytes, a checksum."""
    found: dict[str, dict[int, float]] = {}
    for file in sorted(folder.glob("events.out.tfevents.*")):
        data = file.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


@pytest.fixture
def flawed(empty_dataset: ShapeDataset) -> ShapeDataset:
    """Twelve classes; one picture in two of them, one as another file, one unreadable, and a name in another script."""
    data = empty_dataset.add_classes(12, 4)
    lines = [json.loads(line) for line in data.manifest.read_text().splitlines()]
    first = next((data.blobs / line["sha256"][:2] / line["sha256"]).read_bytes() for line in lines)
    for label in range(12):
        data.add(f"shape{label:02}", "same.png", first)
    file = BytesIO()
    Image.open(BytesIO(first)).save(file, "BMP")
    data.add("写真", "ä 1.bmp", file.getvalue())
    return data.add("写真", "broken.png", first[:60])


def test_a_training_leaves_a_page_its_figures_and_what_is_wrong_with_its_data(
    work: Work, job_folder: JobFolder, flawed: ShapeDataset, read: Callable[[Path], Any]
) -> None:
    folder = job_folder({"loop.epochs": "3"}, dataset=flawed.reference())
    assert work(folder) == 0
    checks = read(folder / "checks.json")
    assert checks["manifest"]["copies"][0]["pictures"] == 13
    assert checks["unreadable"][0]["path"] == "写真/broken.png"
    assert "写真/ä 1.bmp" in checks["same_pixels"][0]["paths"]
    assert checks["both_sides"], "a copy stands in a class that was held out"
    assert any("held-out one" in note for note in read(folder / "result.json")["notes"])
    page = (folder / "report.html").read_text()
    for section in ("Curves", "Spread of distances", "Hardest triplets", "Worst queries", "Best queries", "The data", "Unreadable files"):
        assert f"<h2>{section}</h2>" in page or f"<h3>{section}</h3>" in page
    assert not re.search(r'(?:src|href)="(?!data:)', page), "nothing has to be loaded"
    told = scalars(folder)
    assert sorted(told["train_loss"]) == sorted({step for step in told["heldout_map"] if step})
    assert len(told["train_loss"]) == 3


def test_excluded_pictures_are_not_trained_on_and_the_bundle_says_so(
    work: Work, job_folder: JobFolder, shapes: ShapeDataset, tmp_path: Path, read: Callable[[Path], Any]
) -> None:
    excluded = tmp_path / ("f" * 64)
    paths = [json.loads(line)["path"] for line in shapes.manifest.read_text().splitlines()][:2]
    excluded.write_text(json.dumps(paths))
    folder = job_folder(dataset={**shapes.reference(), "excluded": str(excluded)})
    assert work(folder) == 0
    data = read_bundle(folder / "bundle").description.data
    assert data is not None
    assert (data.excluded_pictures, data.excluded_sha256) == (2, "f" * 64)
    assert read(folder / "checks.json")["pictures"] == data.pictures == len(shapes.manifest.read_text().splitlines()) - 2
    assert "2 pictures were left out as asked" in (folder / "bundle" / "README.md").read_text()


def test_excluding_everything_is_an_error_that_says_so(work: Work, job_folder: JobFolder, shapes: ShapeDataset, tmp_path: Path) -> None:
    excluded = tmp_path / "all"
    excluded.write_text(json.dumps([json.loads(line)["path"] for line in shapes.manifest.read_text().splitlines()]))
    folder = job_folder(dataset={**shapes.reference(), "excluded": str(excluded)})
    assert work(folder) == 1
    assert "left out" in json.loads((folder / "error.json").read_text())["message"]


def test_a_check_lists_a_planted_wrong_label_first_and_makes_no_model(
    work: Work, job_folder: JobFolder, empty_dataset: ShapeDataset, read: Callable[[Path], Any]
) -> None:
    random = np.random.default_rng(0)
    for label, (low, high) in enumerate(((0, 60), (190, 255))):
        for number in range(6):
            file = BytesIO()
            Image.fromarray(random.integers(low, high, (40, 40, 3), dtype=np.uint8)).save(file, "PNG")
            name = "planted" if (label, number) == (0, 5) else str(number)
            empty_dataset.add(f"shade{1 - label if name == 'planted' else label}", f"{name}.png", file.getvalue())
    folder = job_folder()
    check = {
        "kind": "check",
        "uid": "c",
        "dataset": empty_dataset.reference(),
        "init": {"kind": "builtin", "name": "efficientnet_lite0-imagenet"},
    }
    (folder / "job.json").write_text(json.dumps(check))
    assert work(folder) == 0
    with (folder / "suspects.csv").open(newline="", encoding="utf-8") as lines:
        suspects = list(csv.DictReader(lines))
    assert (suspects[0]["path"], suspects[0]["suspected_label"]) == ("shade1/planted.png", "shade0")
    assert read(folder / "result.json").keys() == {"metrics", "notes"}
    assert "Data check" in (folder / "report.html").read_text()
    assert not (folder / "bundle").exists()


def test_hardest_triplets_confusions_and_queries_are_those_of_a_plain_loop() -> None:
    random = np.random.default_rng(3)
    vectors = random.normal(size=(20, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    classes = np.repeat(np.arange(5), 4)
    ranking = Ranking(vectors, classes)
    distance = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    gaps = {}
    for anchor in range(20):
        positive = max((row for row in range(20) if classes[row] == classes[anchor]), key=lambda row: distance[anchor, row])
        negative = min((row for row in range(20) if classes[row] != classes[anchor]), key=lambda row: distance[anchor, row])
        gaps[anchor] = (distance[anchor, negative] - distance[anchor, positive], positive, negative)
    expected = sorted(gaps, key=lambda anchor: gaps[anchor][0])[:3]
    assert [(t.anchor, t.positive, t.negative) for t in ranking.hardest(3)] == [(a, *gaps[a][1:]) for a in expected]
    np.fill_diagonal(distance, np.inf)
    wrong = [(int(classes[row]), int(classes[distance[row].argmin()])) for row in range(20)]
    wrong = [pair for pair in wrong if pair[0] != pair[1]]
    assert ranking.confusions(1)[0].times == max(wrong.count(pair) for pair in wrong)
    worst, best = ranking.queries(20)
    assert len(worst) == len(best) == 10
    assert max(query.ap for query in worst) <= min(query.ap for query in best)
    assert ranking.spread().same.sum() == pytest.approx(1)


def test_a_report_that_cannot_be_made_is_said_and_costs_no_model(
    work: Work, job_folder: JobFolder, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], Any]
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no room for a page")

    monkeypatch.setattr("lookalike_trainer.training.train_job.inspect_data", fail)
    folder = job_folder()
    assert work(folder) == 0
    assert read(folder / "result.json")["profiles"]
    assert "the report could not be made: no room for a page" in (folder / "events.jsonl").read_text()
    assert not (folder / "report.html").exists()
