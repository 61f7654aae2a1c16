"""How long a training takes to a given mAP on held-out classes: a classification before the triplets, or beside them, or neither."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.trainer.jobs import Event, epochs_of, in_folders, run_job, write_dataset

Tell = Callable[[str], None]

CHAINS: dict[str, tuple[str, ...]] = {
    "triplets alone": ("triplet-batch-hard",),
    "classification, then triplets": ("cross-entropy", "triplet-batch-hard"),
    "both at once": ("cross-entropy-and-triplet",),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """What is trained.

    Attributes:
        classes: taken evenly from the folder.
        held_out: share of them that is measured on.
        size: pixels a side.
        epochs: of a chain; of one with two jobs the first has `first_epochs` of them.
        target: mAP; 0 for the best that triplets alone reach.
        init: what the first job of a chain starts from, as KIND or KIND:NAME.
        batch: pictures.
    """

    classes: int = 300
    held_out: float = 0.3
    size: int = 64
    epochs: int = 10
    first_epochs: int = 3
    target: float = 0.0
    init: str = "builtin"
    batch: int = 96


def measure(setting: Setting, emoji: Path, work: Path, tell: Tell) -> dict[str, Any]:
    """A curve of (seconds, mAP) for each chain, and the seconds at which it first reaches the target."""
    dataset = write_dataset(in_folders(emoji, setting.classes), work / "emoji")
    curves = {}
    for name, recipes in CHAINS.items():
        curves[name] = _curve(setting, recipes, dataset, work / name.replace(" ", "-"))
        tell(f"{name}: mAP {curves[name][-1][1]:.3f} after {curves[name][-1][0]:.0f} s of steps")
    target = setting.target or max(score for _, score in curves["triplets alone"])
    reached = {name: seconds_to(target, curve) for name, curve in curves.items()}
    return {"target_map": target, "seconds_to_target": reached, "curves": curves}


def seconds_to(target: float, curve: list[tuple[float, float]]) -> float | None:
    """When a curve first reaches a value, a straight line between its points; None if it does not."""
    earlier = curve[0]
    for point in curve:
        if point[1] >= target:
            rise = point[1] - earlier[1]
            share = (target - earlier[1]) / rise if rise > 0 else 1.0
            return earlier[0] + share * (point[0] - earlier[0])
        earlier = point
    return None


def _curve(setting: Setting, recipes: tuple[str, ...], dataset: dict[str, Any], folder: Path) -> list[tuple[float, float]]:
    kind, _, name = setting.init.partition(":")
    init = {"kind": kind, "name": name or None}
    curve: list[tuple[float, float]] = []
    for number, recipe in enumerate(recipes):
        first = len(recipes) > 1 and number == 0
        epochs = setting.first_epochs if first else setting.epochs - (setting.first_epochs if number else 0)
        job = folder.with_name(f"{folder.name}-{number}")
        events = run_job(job, dataset, recipe=recipe, init=init, seed=1, overrides=_overrides(setting, epochs))
        curve += _points(events, _batch_of(job), curve[-1][0] if curve else 0.0)
        init = {"kind": "bundle", "path": str(job / "bundle")}
    return curve


def _overrides(setting: Setting, epochs: int) -> dict[str, str]:
    values = {
        "pixels.size": setting.size,
        "split.held_out": setting.held_out,
        "loop.epochs": epochs,
        "sampler.batch": setting.batch,
        "loop.recompute": "none",
        "loop.device": "cpu",
    }
    return {key: str(value) for key, value in values.items()}


def _batch_of(job: Path) -> int:
    recipe = json.loads((job / "bundle" / "retrieval.json").read_text(encoding="utf-8"))["recipe"]
    batch: int = recipe["classes_per_batch"] * recipe["pictures_per_class"]
    return batch


def _points(events: list[Event], batch: int, began: float) -> list[tuple[float, float]]:
    """(seconds of steps, mAP) after each epoch; evaluations take no time here, since they are only for the curve."""
    before = next(event["metrics"]["heldout_map"] for event in events if event["message"] == "before training")
    points, seconds, done = ([] if began else [(0.0, before)]), began, 0
    for event in epochs_of(events):
        seconds += (event["done"] - done) * batch / event["metrics"]["pictures_per_second"]
        done = event["done"]
        points.append((seconds, event["metrics"]["heldout_map"]))
    return points
