"""Builds looked at, started, activated and cancelled from the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lookalike import Client, Engine, Item, Space

Run = Callable[..., Any]
SPACE = Space("ls1:" + "d" * 64, "shoes", 1, "plain", 16)


@pytest.fixture
def filled(client: Client, request: pytest.FixtureRequest) -> str:
    """A collection of its own with forty items."""
    name = f"of-{abs(hash(request.node.name))}"
    client.indexer.create_collection(name, SPACE, engine=Engine.ANNOY)
    vectors = np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32)
    client.indexer.upsert_items(f"collections/{name}", [Item(f"{n}.png") for n in range(40)], vectors, SPACE)
    return name


def test_a_build_is_started_and_shown_with_its_plan_curve_and_seconds(run: Run, filled: str) -> None:
    assert run("builds", "list", filled).out == f"no builds yet: lookalike builds start {filled}\n"
    none_yet = run("builds", "show", filled)
    assert (none_yet.status, f"lookalike builds start {filled}" in none_yet.err) == (1, True)
    done = run("builds", "start", filled, "--force-engine", "--trees", 10, "--dba", 2, "--dba-weights", "rank", "--json")
    assert done.status == 0, done.err
    spec = done.document["spec"]
    assert (spec["force_engine"], spec["trees"], spec["dba"]["k"], spec["dba"]["weights"]) == (True, 10, 2, "RANK")
    shown = run("builds", "show", filled).out
    assert f"collections/{filled}/builds/1: succeeded, answers searches\n" in shown
    assert "40 items, DBA 2 neighbours, rank weights, answers by annoy: the best effort has a recall" in shown
    assert "seconds: " in shown
    assert "augment 0." in shown
    plan, curve = shown.split("what recall costs, for 10 hits of single queries; the target is 0.95, 4 probes")
    assert plan.count("annoy, 10 trees") == 8
    assert curve.count("← planned") == 1
    assert "exact" in curve
    document = run("builds", "show", f"{filled}/1", "--json").document
    assert document["report"]["measured"]
    (listed,) = run("builds", "list", filled, "--json").document["builds"]
    assert listed["name"] == document["name"] == f"collections/{filled}/builds/1"


def test_a_kept_build_is_activated_and_pinned(run: Run, filled: str) -> None:
    for dba in (1, 0):
        assert run("builds", "start", filled, "--dba", dba).status == 0
    activated = run("builds", "activate", f"{filled}/1")
    assert "builds/1 answers searches; it is pinned" in activated.out
    rows = [line for line in run("builds", "list", filled).out.splitlines() if line.startswith(filled)]
    assert ["kept" in rows[0], "answers searches, pinned" in rows[1]] == [True, True]
    assert run("builds", "start", filled, "--purge").status == 0
    assert "its files are no longer kept" in run("builds", "show", f"{filled}/2").out
    gone = run("builds", "activate", f"{filled}/2", "--json")
    assert (gone.status, gone.document["error"]["reason"]) == (1, "BUILD_NOT_KEPT")


def test_a_build_is_left_running_watched_and_cancelled(run: Run, filled: str) -> None:
    queued = run("builds", "start", filled, "--detach")
    assert queued.out == f"collections/{filled}/builds/1 was queued; watch it: lookalike builds watch {filled}/1\n"
    assert "40 items" in run("builds", "watch", f"{filled}/1").out
    assert "has ended: succeeded" in run("builds", "cancel", f"{filled}/1").out
    second = run("builds", "start", filled, "--detach", "--json").document["name"]
    cancelled = run("builds", "cancel", second, "--json").document["state"]
    ended = run("builds", "watch", second)
    # It may have been quicker.
    assert ended.status == (0 if cancelled == "SUCCEEDED" else 1)


def test_builds_that_are_not_there_are_sentences(run: Run, filled: str) -> None:
    for words, status, sentence in (
        (("list", "nowhere"), 1, "nowhere"),
        (("show", "nowhere"), 1, "nowhere"),
        (("show", f"{filled}/7"), 1, "no build 7"),
        (("watch", f"{filled}/7"), 1, "no build 7"),
        (("activate", f"{filled}/7"), 1, "no build 7"),
        (("cancel", f"{filled}/7"), 1, "no build 7"),
        (("activate", filled), 2, "such as photos/3"),
        (("start", "nowhere"), 1, "nowhere"),
        (("start", filled, "--reduced-dim", 1), 2, "2 to 16,384"),
    ):
        done = run("builds", *words)
        assert (done.status, done.out) == (status, ""), words
        assert sentence in done.err, words
