"""Jobs of the trainer as the service starts them: a folder, a worker's process, the events that it leaves."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lookalike_trainer.blobs import blob_path

Event = dict[str, Any]


def coloured(classes: int, pictures: int, size: int) -> Iterable[tuple[str, str, bytes]]:
    """(label, name, PNG) of noise around a colour a class: for what does not depend on what pictures show."""
    random = np.random.default_rng(0)
    for label in range(classes):
        colour = random.integers(40, 215, 3)
        for number in range(pictures):
            noise = random.integers(-40, 40, (size, size, 3))
            file = BytesIO()
            Image.fromarray((colour + noise).astype(np.uint8)).save(file, "PNG", compress_level=1)
            yield f"class{label:04}", f"{number}.png", file.getvalue()


def in_folders(root: Path, classes: int) -> Iterable[tuple[str, str, bytes]]:
    """(label, name, content) of the first classes of a folder of folders.

    Raises:
        FileNotFoundError: there are fewer.
    """
    folders = sorted(path for path in root.glob("*") if path.is_dir())
    if len(folders) < classes:
        raise FileNotFoundError(f"{root} holds {len(folders)} classes, {classes} are wanted: run `make demo`, or name another with --emoji")
    for folder in folders[:: len(folders) // classes][:classes]:
        for file in sorted(folder.iterdir()):
            yield folder.name, file.name, file.read_bytes()


def write_dataset(pictures: Iterable[tuple[str, str, bytes]], root: Path) -> dict[str, Any]:
    """Put pictures where a job finds them; how `job.json` refers to them."""
    lines = []
    for label, name, data in pictures:
        digest = hashlib.sha256(data).hexdigest()
        path = blob_path(root / "blobs", digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        lines.append(json.dumps({"path": f"{label}/{name}", "label": label, "sha256": digest, "size": len(data)}))
    manifest = root / "manifest.jsonl"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"name": "bench", "revision": 1, "fingerprint": "ld1:0", "manifest": str(manifest), "blobs": str(root / "blobs")}


def run_job(folder: Path, dataset: Mapping[str, Any], **parts: Any) -> list[Event]:
    """Run a training to its end; its events.

    Args:
        folder: that does not exist yet.
        parts: of `job.json`, beside the data set.

    Raises:
        RuntimeError: it failed; the message is what it said.
    """
    folder.mkdir(parents=True)
    job = {"kind": "train", "uid": folder.name, "model": "bench", "dataset": dict(dataset), **parts}
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    status, said = work(folder)
    if status:
        error = folder / "error.json"
        raise RuntimeError(f"the job failed: {error.read_text(encoding='utf-8') if error.exists() else said[-2_000:]}")
    return [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]


def work(folder: Path) -> tuple[int, str]:
    """Do a job in a process of its own; its exit status, and what it said."""
    done = subprocess.run([sys.executable, "-m", "lookalike_trainer.worker", str(folder)], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def epochs_of(events: Iterable[Event]) -> list[Event]:
    """Those that tell of an epoch that was trained."""
    return [event for event in events if event["stage"] == "train" and "pictures_per_second" in event["metrics"]]
