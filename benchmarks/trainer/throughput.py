"""Pictures a second of a job against those of a plain PyTorch loop, in turns."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.trainer.jobs import coloured, epochs_of, run_job, write_dataset
from benchmarks.trainer.plain_loop import Plain
from lookalike_trainer.blobs import blob_path

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Setting:
    """What is measured.

    Attributes:
        size: pixels a side.
        batch: pictures.
        epochs: of a job's turn, the first of which is not timed.
        turns: of the job and of the best plain loop, one after the other.
        sweep_steps: timed steps of each plain loop of the sweep.
    """

    architecture: str = "tf_efficientnet_lite0"
    size: int = 96
    classes: int = 200
    pictures: int = 8
    batch: int = 80
    epochs: int = 4
    turns: int = 3
    workers: tuple[int, ...] = (0, 1, 2)
    threads: tuple[int, ...] = (1, 2)
    sweep_steps: int = 8
    device: str = "cpu"
    precision: str = "fp32"


def measure(setting: Setting, work: Path, tell: Tell) -> dict[str, Any]:
    """Sweep the plain loop, then take turns; `throughput_ratio` is between the fastest stretches of each.

    A stretch is as many steps as an epoch of the job: twenty or so, as batches that wait ready make a few steps faster than the
    loop is. On a machine that others use too, the fastest was disturbed least.
    """
    dataset = write_dataset(coloured(setting.classes, setting.pictures, setting.size), work / "data")
    base = _base(setting, dataset, work / "pixels.u8")
    sweep: list[dict[str, Any]] = []
    for workers, threads, layout in product(setting.workers, setting.threads, ("channels_last", "contiguous")):
        each = replace(base, workers=workers, threads=threads, memory_format=layout)
        sweep.append({"workers": workers, "threads": threads, "memory_format": layout, "pictures_per_second": plain_speed(each)})
        tell(f"plain loop, {workers} workers, {threads} threads, {layout}: {sweep[-1]['pictures_per_second']:.1f} pictures a second")
    best = max(sweep, key=lambda found: found["pictures_per_second"])
    plain = replace(
        base,
        steps=_steps_of_an_epoch(setting),
        stretches=max(setting.epochs - 1, 1),
        workers=best["workers"],
        threads=best["threads"],
        memory_format=best["memory_format"],
    )
    turns = []
    for turn in range(setting.turns):
        turns.append({"job": job_speed(setting, dataset, work / f"job{turn}"), "plain": plain_speed(plain)})
        tell(f"turn {turn + 1}: job {turns[-1]['job']:.1f}, plain loop {turns[-1]['plain']:.1f} pictures a second")
    job, loop = (max(turn[name] for turn in turns) for name in ("job", "plain"))
    return {"throughput_ratio": job / loop, "job": job, "plain": loop, "best_plain": best, "turns": turns, "sweep": sweep}


def job_speed(setting: Setting, dataset: dict[str, Any], folder: Path) -> float:
    """Of the default recipe, in its fastest epoch: steps, the wait for batches, checkpoints."""
    overrides = {
        "pixels.size": setting.size,
        "loop.epochs": setting.epochs,
        "sampler.batch": setting.batch,
        "split.held_out": 0.0,
        "loop.device": setting.device,
        "loop.precision": setting.precision,
        "loop.memory_format": "channels_last",
    }
    start = {"kind": "random", "name": setting.architecture}
    events = run_job(folder, dataset, overrides={key: str(value) for key, value in overrides.items()}, init=start)
    return float(max(event["metrics"]["pictures_per_second"] for event in epochs_of(events)[1:]))


def plain_speed(plain: Plain) -> float:
    """Of a plain loop in a process of its own.

    Raises:
        RuntimeError: it failed.
    """
    command = [sys.executable, "-m", "benchmarks.trainer.plain_loop", json.dumps(asdict(plain))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the plain loop failed: {done.stderr[-2_000:]}")
    found: float = json.loads(done.stdout)
    return found


def _base(setting: Setting, dataset: dict[str, Any], pixels: Path) -> Plain:
    """The same pictures as a file of pixels, as a job keeps them."""
    rows = [json.loads(line) for line in Path(dataset["manifest"]).read_text(encoding="utf-8").splitlines()]
    images = [np.asarray(Image.open(blob_path(Path(dataset["blobs"]), row["sha256"])).convert("RGB")) for row in rows]
    np.stack(images).tofile(pixels)
    return Plain(
        architecture=setting.architecture,
        pixels=str(pixels),
        size=setting.size,
        classes=setting.classes,
        pictures=setting.pictures,
        batch=setting.batch,
        steps=setting.sweep_steps,
        device=setting.device,
        precision=setting.precision,
    )


def _steps_of_an_epoch(setting: Setting) -> int:
    return -(-setting.classes * setting.pictures // setting.batch)
