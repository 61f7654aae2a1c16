"""Charts as SVG text, drawn so that they read on a light and on a dark page."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#8a8f98"
COLOURS = ("#3b82f6", "#10b981", "#f59e0b", "#8b5cf6", "#ef4444", "#64748b", "#06b6d4", "#ec4899", "#84cc16")

Line = Sequence[tuple[float, float]]


def lines_chart(lines: Mapping[str, Line], *, x: str, y: str, log_x: bool = False, log_y: bool = False) -> str:
    """Draw one line for each name; `x` and `y` say what the axes show."""
    figure, axes = plt.subplots(figsize=(8.4, 4.4))
    for (name, points), colour in zip(lines.items(), COLOURS * 9, strict=False):
        ordered = sorted(points)
        axes.plot([a for a, _ in ordered], [b for _, b in ordered], marker="o", markersize=3.5, lw=1.3, color=colour, label=name)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_xscale("log" if log_x else "linear")
    axes.set_yscale("log" if log_y else "linear")
    _plain(axes)
    axes.grid(color=INK, alpha=0.15, lw=0.6)
    axes.legend(frameon=False, labelcolor=INK, fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return _svg(figure)


def _plain(axes: Axes) -> None:
    for side in axes.spines.values():
        side.set_color(INK)
        side.set_linewidth(0.6)
    axes.spines["top"].set_visible(False)
    axes.spines["right"].set_visible(False)
    axes.tick_params(which="both", colors=INK, labelcolor=INK, width=0.6)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(INK)


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return text.getvalue()[text.getvalue().index("<svg") :]
