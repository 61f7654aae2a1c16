"""What a build came to, as people read it."""

from __future__ import annotations

from rich.console import RenderableType

from lookalike._models import Build, BuildReport, PlanEntry
from lookalike.cli._session import table
from lookalike.workflows._dba import said_dba

_SOURCE = "source"
_FIGURES = ("#dimensions", "#search_k", "#depth", "#recall", "#at least", "#ms a query")
_CURVE_K = 10


def short_name(build: str) -> str:
    """Return `C/B` for `collections/C/builds/B`."""
    return build.removeprefix("collections/").replace("/builds/", "/")


def said_use(build: Build) -> str:
    """Say what a build is good for now."""
    if build.active:
        return "answers searches" + (", pinned" if build.pinned else "")
    return "kept" if build.kept else ""


def said_report(report: BuildReport) -> str:
    """Say what is in a build, what answers its searches, and why."""
    return f"{report.item_count:,} items, DBA {said_dba(report.dba)}, answers by {report.engine.lower()}: {report.reason}"


def planned(report: BuildReport) -> PlanEntry | None:
    """Return what answers single queries for 10 hits; None where nothing was planned."""
    return next((each for each in report.plan if each.k == _CURVE_K and not each.batch), None)


def plan(report: BuildReport) -> list[RenderableType]:
    """Return what answers which searches; nothing where nothing was measured."""
    shown = table("#hits up to", "queries", _SOURCE, *_FIGURES)
    for each in report.plan:
        shown.add_row(f"{each.k:,}", "batches" if each.batch else "single", *_way(each))
    return ["", "what answers which searches", shown] if report.plan else []


def curve(report: BuildReport) -> list[RenderableType]:
    """Return what recall costs, cheapest first: everything that was timed for 10 hits of single queries. Nothing if nothing was."""
    timed = [each for each in report.measured if each.k == _CURVE_K and not each.batch and each.milliseconds]
    shown = table(_SOURCE, *_FIGURES, "")
    for each in sorted(timed, key=lambda each: each.milliseconds):
        shown.add_row(*_way(each), "← planned" if each == planned(report) else "")
    title = (
        f"what recall costs, for {_CURVE_K} hits of single queries; the target is {report.recall_target:g}, {report.probe_count:,} probes"
    )
    return ["", title, shown] if timed else []


def said_seconds(report: BuildReport) -> str:
    """Say how long each stage took, and how large the files are."""
    stages = ", ".join(f"{name} {seconds:.2f}" for name, seconds in sorted(report.seconds.items(), key=lambda each: -each[1]))
    return f"seconds: {stages}; files: {report.size_bytes / 2**20:,.1f} MiB"


def _way(entry: PlanEntry) -> list[str]:
    """Return the cells of a source with its effort."""
    made = f", {entry.trees} trees" if entry.trees else f", {entry.links} links" if entry.links else ""
    numbers = [f"{number:,}" if number else "" for number in (entry.reduced_dim, entry.search_k, entry.depth)]
    measured = [f"{figure:.3f}" for figure in (entry.recall, entry.recall_low, entry.milliseconds)]
    return [entry.source.lower() + made, *numbers, *measured]
