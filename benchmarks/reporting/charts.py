"""Charts as SVG text, drawn so that they read on a light and on a dark page."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#8a8f98"
COLOURS = ("#3b82f6", "#10b981", "#f59e0b", "#8b5cf6", "#ef4444", "#64748b", "#06b6d4", "#ec4899", "#84cc16", "#a16207")
_SIZE = (8.4, 4.4)

Line = Sequence[tuple[float, float]]


def lines_chart(lines: Mapping[str, Line], *, x: str, y: str, log_x: bool = False, log_y: bool = False) -> str:
    """Draw one line for each name; `x` and `y` say what the axes show."""
    figure, axes = plt.subplots(figsize=_SIZE)
    for (name, points), colour in zip(lines.items(), cycle(COLOURS)):
        axes.plot(*_columns(sorted(points)), marker="o", markersize=3.5, lw=1.3, color=colour, label=name)
    axes.set_xscale("log" if log_x else "linear")
    axes.set_yscale("log" if log_y else "linear")
    return _svg(figure, axes, x, y)


def frontier_chart(settings: Mapping[str, Line], *, x: str, y: str) -> str:
    """Draw a faint dot for each setting of a name, and a line along those that are best: no other of its settings has more of both."""
    figure, axes = plt.subplots(figsize=_SIZE)
    for (name, points), colour in zip(settings.items(), cycle(COLOURS)):
        axes.scatter(*_columns(points), s=6, color=colour, alpha=0.35, lw=0)
        axes.plot(*_columns(frontier(points)), marker="o", markersize=3.5, lw=1.3, color=colour, label=name)
    axes.set_yscale("log")
    return _svg(figure, axes, x, y)


def frontier(points: Line) -> list[tuple[float, float]]:
    """Return the points, by rising x, than which no other has more of both."""
    best: list[tuple[float, float]] = []
    for point in sorted(points, reverse=True):
        if not best or point[1] > best[-1][1]:
            best.append(point)
    return best[::-1]


def _columns(points: Line) -> tuple[list[float], list[float]]:
    return [a for a, _ in points], [b for _, b in points]


def _plain(axes: Axes) -> None:
    for side in axes.spines.values():
        side.set_color(INK)
        side.set_linewidth(0.6)
    axes.spines["top"].set_visible(False)
    axes.spines["right"].set_visible(False)
    axes.tick_params(which="both", colors=INK, labelcolor=INK, width=0.6)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(INK)


def _svg(figure: Figure, axes: Axes, x: str, y: str) -> str:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    _plain(axes)
    axes.grid(color=INK, alpha=0.15, lw=0.6)
    axes.legend(frameon=False, labelcolor=INK, fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5))
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return text.getvalue()[text.getvalue().index("<svg") :]
