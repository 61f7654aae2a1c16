"""Figures of a training over its epochs, as lines in a box of a fixed size."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

WIDTH, HEIGHT = 360.0, 150.0
# Which figures share a box, and what it is called.
_BOXES = (
    ("Loss", ("train_loss",)),
    ("mAP on held-out classes", ("heldout_map", "heldout_map_embedding")),
    ("Spread of distances in a batch", ("distance_spread",)),
    ("Rate", ("rate",)),
)


@dataclass(frozen=True, slots=True)
class Line:
    """A figure: its name, its values, and the points of a polyline in the box."""

    name: str
    values: tuple[float, ...]
    points: str


@dataclass(frozen=True, slots=True)
class Box:
    """Lines that share a scale from `low` to `high`."""

    title: str
    low: float
    high: float
    lines: tuple[Line, ...]


def read_figures(events: Path) -> dict[str, list[float]]:
    """The figures of each epoch by name, in order; those of a step that was done again count once, as it was done last."""
    by_step: dict[str, dict[int, float]] = {}
    with events.open(encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            step = event["done"] if event["stage"] == "train" else 0
            for name, value in event["metrics"].items() if event["stage"] in ("train", "evaluate") else ():
                by_step.setdefault(name, {})[step] = float(value)
    return {name: [values[step] for step in sorted(values)] for name, values in by_step.items()}


def boxes(figures: dict[str, list[float]]) -> list[Box]:
    """The boxes of the figures that there are at least two values of."""
    made = []
    for title, names in _BOXES:
        there = [name for name in names if len(figures.get(name, ())) > 1]
        if there:
            values = [value for name in there for value in figures[name]]
            low, high = min(values), max(values)
            lines = tuple(Line(name, tuple(figures[name]), _points(figures[name], low, high)) for name in there)
            made.append(Box(title, low, high, lines))
    return made


def _points(values: Sequence[float], low: float, high: float) -> str:
    span = high - low or 1.0
    step = WIDTH / (len(values) - 1)
    return " ".join(f"{index * step:.1f},{HEIGHT - (value - low) / span * HEIGHT:.1f}" for index, value in enumerate(values))
