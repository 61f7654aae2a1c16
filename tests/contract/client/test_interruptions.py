"""Ctrl-C in each long command: a sentence, nothing half-done to be seen, and a second run that succeeds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
Draw = Callable[[Path, int, int], Path]


@pytest.fixture(scope="module")
def many(draw: Draw, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough pictures for the embedder to be at work when Ctrl-C comes: folders `classes` and `flat`."""
    root = tmp_path_factory.mktemp("many")
    for number in range(150):
        draw(root / "classes" / f"kind{number % 10}" / f"{number}.png", number % 10, number)
        draw(root / "flat" / f"{number}.png", number % 10, number)
    return root


@pytest.fixture(scope="module")
def words(many: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[object, ...]]:
    out = tmp_path_factory.mktemp("out")
    sides = {name: ("--queries", many / name, "--references", many / name, "--model", "zero-shot") for name in ("classes", "flat")}
    return {
        "index": ("index", many / "classes", "--collection", "stopped"),
        "submit": ("submit", *sides["flat"], "-o", out / "submission.csv"),
        "evaluate": ("evaluate", *sides["classes"], "-o", out / "report"),
    }


@pytest.mark.parametrize("name", ["index", "submit", "evaluate"])
def test_stopped_command_says_so_and_a_second_run_succeeds(
    run: Run, interrupt: Run, words: dict[str, tuple[object, ...]], draw: Draw, tmp_path: Path, name: str
) -> None:
    draw(tmp_path / "1.png", 0, 0)
    warm = run("index", tmp_path, "--collection", "warm", "--model", "zero-shot")
    assert warm.status == 0, warm.err
    stopped = interrupt(*words[name], once="embedding", pause=0.3)
    assert (stopped.status, stopped.out) == (1, "")
    assert "stopped by Ctrl-C: run the same command again" in stopped.err
    assert "Traceback" not in stopped.err
    if name != "index":
        output = Path(str(words[name][-1]))
        assert not output.exists()
        assert [path.name for path in output.parent.iterdir()] == [] or name == "evaluate"
    done = run(*words[name])
    assert done.status == 0, done.err


def test_stopped_push_goes_on(run: Run, interrupt: Run, many: Path, draw: Draw, tmp_path: Path) -> None:
    # A large file makes the upload take long enough.
    draw(tmp_path / "a" / "1.png", 0, 0)
    draw(tmp_path / "b" / "1.png", 0, 1)
    for name in "ab":
        for number in range(40):
            picture = draw(tmp_path / name / f"{number}-large.png", 0, number)
            with picture.open("ab") as file:
                file.write(f"{name}{number}".encode() * 1_000_000)
    stopped = interrupt("dataset", "push", tmp_path, "--name", "stopped", once="sending")
    assert (stopped.status, stopped.out) == (1, "")
    assert "Traceback" not in stopped.err
    done = run("dataset", "push", tmp_path, "--name", "stopped", "--json")
    assert done.status == 0, done.err
    assert done.document["revision"]["name"] == "datasets/stopped/revisions/1"
