"""Coloured shapes as a data set, and jobs on it with a network that trains in milliseconds."""

import colorsys
import hashlib
import json
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lookalike_trainer.blobs import blob_path
from lookalike_trainer.training.interruption import Interruption
from lookalike_trainer.worker import main

TINY = {"pixels.size": "32", "loop.epochs": "2", "loop.device": "cpu"}
"""Overrides that make a training short."""


class ShapeDataset:
    """A manifest and its contents. Class c is a square or disc in a colour of its own, each time elsewhere."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = root / "blobs"
        self.manifest = root / "manifest.jsonl"
        self._lines: list[str] = []

    def add_classes(self, classes: int, pictures: int, first: int = 0) -> "ShapeDataset":
        for label in range(first, first + classes):
            for number in range(pictures):
                self.add(f"shape{label:02}", f"{number}.png", _shape(label, number))
        return self

    def add(self, label: str, name: str, data: bytes) -> "ShapeDataset":
        digest = hashlib.sha256(data).hexdigest()
        path = blob_path(self.blobs, digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        entry = {"path": f"{label}/{name}", "label": label, "sha256": digest, "size": len(data)}
        self._lines.append(json.dumps(entry))
        self.manifest.write_text("\n".join(self._lines) + "\n")
        return self

    def reference(self) -> dict[str, Any]:
        return {
            "name": "shapes",
            "revision": 1,
            "fingerprint": "ld1:0",
            "manifest": str(self.manifest),
            "blobs": str(self.blobs),
        }


def _shape(label: int, number: int) -> bytes:
    random = np.random.default_rng(label * 1000 + number)
    image = Image.new("RGB", (40, 40), (255, 255, 255))
    x, y = random.integers(1, 14, 2).tolist()
    colour = tuple(int(255 * v) for v in colorsys.hsv_to_rgb(label / 12 % 1, 0.8, 0.8))
    draw = ImageDraw.Draw(image)
    (draw.rectangle if label % 2 else draw.ellipse)((x, y, x + 24, y + 24), fill=colour)
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def empty_dataset(tmp_path: Path) -> ShapeDataset:
    return ShapeDataset(tmp_path / "other")


@pytest.fixture
def shapes(tmp_path: Path) -> ShapeDataset:
    """Twelve classes of four pictures."""
    return ShapeDataset(tmp_path / "data").add_classes(12, 4)


@pytest.fixture
def work() -> Callable[[Path], int]:
    """Does the job in a folder, in this process; the exit status."""
    return lambda folder: main(folder, Interruption())


@pytest.fixture
def job_folder(tmp_path: Path, shapes: ShapeDataset) -> Callable[..., Path]:
    """Writes a `job.json`; what is given replaces its parts, overrides are added to those that make it short."""
    made: list[Path] = []

    def write(overrides: Mapping[str, str] | None = None, **parts: Any) -> Path:
        folder = tmp_path / f"job{len(made)}"
        folder.mkdir()
        made.append(folder)
        job = {
            "kind": "train",
            "uid": folder.name,
            "model": "shapes",
            "dataset": shapes.reference(),
            "recipe": None,
            "overrides": {**TINY, **(overrides or {})},
            "init": {"kind": "random", "name": "test_efficientnet"},
            "seed": 1,
        } | parts
        (folder / "job.json").write_text(json.dumps(job))
        return folder

    return write


@pytest.fixture
def read() -> Callable[[Path], Any]:
    """A JSON document."""
    return lambda path: json.loads(path.read_text())


@pytest.fixture
def events() -> Callable[[Path], list[dict[str, Any]]]:
    """The events of a job's folder."""
    return lambda folder: [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
