"""Several models made one by the command, and served under an alias."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike import CallFailed, Client, Target
from lookalike.cli import main

Run = Callable[..., Any]
Draw = Callable[[Path, int, int], Path]


@pytest.fixture(scope="module")
def members(data: Path, tiny_weights: Path) -> tuple[str, str]:
    """Two models of other sizes."""
    for name, size in (("left", "32"), ("right", "48")):
        words = ["models", "import", "--timm", "test_efficientnet", "--weights", str(tiny_weights), "--size", size, "--name", name]
        assert main([*words, "--data", str(data)]) == 0
    return "left", "right"


def test_an_ensemble_is_made_served_and_weighs_its_members(
    run: Run, client: Client, members: tuple[str, str], draw: Draw, tmp_path: Path
) -> None:
    made = run("models", "ensemble", *members, "--name", "both", "--weights", "3,1", "--json")
    assert made.status == 0, made.err
    assert made.document["origin"] == "ENSEMBLE"
    assert run("models", "alias", "both@live", "both").status == 0
    pictures = [draw(tmp_path / f"{number}.png", number % 3, number).read_bytes() for number in range(4)]

    def cosines(model: str) -> Any:
        answer = client.embedder.embed(Target(model), pictures)
        assert answer.cost.device
        assert answer.cost.precision in ("fp32", "bf16")
        vectors = answer.vectors.astype(np.float64)
        return vectors @ vectors.T

    expected = 0.75 * cosines("models/left") + 0.25 * cosines("models/right")
    assert np.abs(cosines("models/both@live") - expected).max() <= 2e-3
    served = client.embedder.get_served_model("models/both@live")
    assert (served.name, served.aliases) == ("models/both/versions/1", ("live",))
    assert served.memory_bytes > 0


def test_an_ensemble_is_downloaded_and_imported_as_it_is(run: Run, members: tuple[str, str], tmp_path: Path) -> None:
    first = run("models", "ensemble", *members, "--name", "carried", "--json").document
    assert run("models", "download", "carried", "--to", tmp_path / "out").status == 0
    again = run("models", "import", "--folder", tmp_path / "out", "--name", "carried-in", "--json")
    assert again.status == 0, again.err
    prints = [each["profiles"]["plain"]["space"]["fingerprint"] for each in (first, again.document)]
    assert prints[0] == prints[1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("left",), "2 to 6"),
        (("left", "nothing"), "nothing"),
        (("left", "right:tuned"), "no profile 'tuned'"),
        (("left", "right", "--weights", "1"), "one weight for each"),
        (("left", "right", "--weights", "1,x"), "no weights"),
        (("left", "right", "--weights", "1,-1"), "not above 0"),
        (("left@nowhere", "right"), "nowhere"),
    ],
)
def test_a_wrong_ensemble_is_refused_before_it_is_queued(
    run: Run, client: Client, members: tuple[str, str], words: tuple[str, ...], says: str
) -> None:
    before = len(client.trainer.list_jobs())
    done = run("models", "ensemble", *words, "--name", "refused")
    assert done.status in (1, 2)
    assert says in done.err
    assert len(client.trainer.list_jobs()) == before


def test_an_ensemble_is_no_member(run: Run, members: tuple[str, str]) -> None:
    assert run("models", "ensemble", *members, "--name", "nested").status == 0
    done = run("models", "ensemble", "nested", "left", "--name", "refused")
    assert done.status == 2
    assert "name its members" in done.err


def test_an_unknown_alias_is_not_found(client: Client, members: tuple[str, str]) -> None:
    with pytest.raises(CallFailed, match="left@nowhere") as raised:
        client.embedder.embed(Target("models/left@nowhere"), [b"x"])
    assert raised.value.reason == "ALIAS_NOT_FOUND"
