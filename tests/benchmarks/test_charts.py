from __future__ import annotations

from benchmarks.reporting.charts import frontier, frontier_chart


def test_frontier_has_what_nothing_beats_in_both() -> None:
    points = [(0.9, 50.0), (0.8, 90.0), (0.85, 40.0), (0.99, 10.0), (0.9, 45.0), (0.8, 60.0), (0.7, 90.0)]
    assert frontier(points) == [(0.8, 90.0), (0.9, 50.0), (0.99, 10.0)]
    assert frontier([]) == []


def test_more_names_than_colours_are_drawn() -> None:
    chart = frontier_chart({f"name {each}": [(0.9, 1.0 + each)] for each in range(12)}, x="recall", y="queries a second")
    assert all(f"name {each}" in chart for each in range(12))
