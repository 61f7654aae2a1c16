"""Charts of the demo as SVG text, drawn so that they read on a light and on a dark page."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#8a8f98"
BEFORE, AFTER, BEST = "#b0b6c0", "#3b82f6", "#10b981"


def training_chart(epochs: Sequence[Mapping[str, float]]) -> str:
    """Draw loss and held-out mAP by epoch; each mapping may hold `epoch`, `train_loss` and `heldout_map`."""
    figure, loss = plt.subplots(figsize=(7.2, 3.2))
    number = [e["epoch"] for e in epochs]
    losses = [(e["epoch"], e["train_loss"]) for e in epochs if "train_loss" in e]
    loss.plot(*zip(*losses, strict=True), color=BEFORE, marker="o", markersize=3, label="training loss")
    loss.set_ylabel("training loss")
    loss.set_xlabel("epoch")
    loss.set_xticks(range(int(min(number)), int(max(number)) + 1))
    quality = loss.twinx()
    held_out = [(e["epoch"], e["heldout_map"]) for e in epochs if "heldout_map" in e]
    quality.plot(*zip(*held_out, strict=True), color=AFTER, marker="o", markersize=4, label="mAP on held-out classes")
    quality.set_ylabel("mAP on held-out classes", color=AFTER)
    for axes in (loss, quality):
        _plain(axes)
    return _svg(figure)


def comparison_chart(bars: Sequence[tuple[str, float, tuple[float, float]]]) -> str:
    """Draw one bar for each (name, value, interval), values from 0 to 1."""
    figure, axes = plt.subplots(figsize=(7.2, 0.55 * len(bars) + 0.6))
    colours = [BEFORE, AFTER, BEST][: len(bars)]
    names = [name for name, _, _ in bars]
    values = [value for _, value, _ in bars]
    errors = [[v - low for _, v, (low, _) in bars], [high - v for _, v, (_, high) in bars]]
    axes.barh(names, values, xerr=errors, color=colours, height=0.6, error_kw={"ecolor": INK, "capsize": 3, "lw": 1})
    for row, (_, value, (_, high)) in enumerate(bars):
        axes.text(high + 0.012, row, f"{value:.3f}", va="center", color=INK, fontsize=10)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("mAP@1000 on classes never seen in training (bars: 95 % interval over classes)")
    _plain(axes)
    return _svg(figure)


def _plain(axes: Axes) -> None:
    for side in axes.spines.values():
        side.set_color(INK)
        side.set_linewidth(0.6)
    axes.spines["top"].set_visible(False)
    axes.tick_params(colors=INK, labelcolor=INK, width=0.6)
    for label in (axes.xaxis.label, axes.yaxis.label):
        if label.get_color() in ("black", "#000000"):
            label.set_color(INK)


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["svg.hashsalt"] = "lookalike"
    figure.savefig(out, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    text = out.getvalue()
    return text[text.index("<svg") :]
