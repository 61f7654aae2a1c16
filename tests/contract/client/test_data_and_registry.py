"""Data checks, exclusion, aliases, downloads and folder imports by the command."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm

from lookalike import Client

Run = Callable[..., Any]
Draw = Callable[[Path, int, int], Path]

TINY = ("--init", "random:test_efficientnet", "--set", "loop.epochs=1", "--set", "pixels.size=32")


@pytest.fixture(scope="module")
def model(data: Path, tiny_weights: Path) -> str:
    """A tiny imported model."""
    from lookalike.cli import main

    words = ["models", "import", "--timm", "test_efficientnet", "--weights", str(tiny_weights), "--size", "32", "--name", "tiny-checker"]
    assert main([*words, "--data", str(data)]) == 0
    return "tiny-checker"


@pytest.fixture
def pictures(draw: Draw, tmp_path: Path) -> Path:
    """Three classes of four, one of a name in another script; one picture stands in two classes."""
    for kind, label in enumerate(("круг", "square", "写真")):
        for number in range(4):
            draw(tmp_path / "in" / label / f"ä {number}.png", kind, 40 + number)
    (tmp_path / "in" / "square" / "copy.png").write_bytes((tmp_path / "in" / "круг" / "ä 0.png").read_bytes())
    return tmp_path / "in"


def test_a_dataset_is_pushed_shown_checked_cleaned_and_deleted(run: Run, pictures: Path, tmp_path: Path, model: str) -> None:
    assert run("dataset", "push", pictures, "--name", "flawed").status == 0
    assert "datasets/flawed" in [each["name"] for each in run("dataset", "list", "--json").document["datasets"]]
    before = run("dataset", "show", "flawed")
    assert "square/copy.png = круг/ä 0.png" in before.out
    assert "not looked at yet" in before.out
    checked = run("dataset", "check", "flawed", "--model", model, "-o", tmp_path / "checked", "--json")
    assert checked.status == 0, checked.err
    assert "1 picture stands in several classes." in checked.document["job"]["notes"]
    assert "Data check" in (tmp_path / "checked" / "report.html").read_text()
    shown = run("dataset", "show", "flawed", "-o", tmp_path / "shown", "--json").document
    assert shown["checks"] == json.loads((tmp_path / "checked" / "checks.json").read_text())
    assert (tmp_path / "shown" / "suspects.csv").read_text() == (tmp_path / "checked" / "suspects.csv").read_text()

    with (tmp_path / "out.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("label", "path"), ("square", "square/copy.png")])
    trained = run("train", "flawed", "--model", "cleaned", "--exclude", tmp_path / "out.csv", *TINY, "--json")
    assert trained.status == 0, trained.err
    assert run("models", "download", "cleaned", "--to", tmp_path / "cleaned").status == 0
    described = json.loads((tmp_path / "cleaned" / "retrieval.json").read_text())["data"]
    assert (described["pictures"], described["excluded_pictures"]) == (12, 1)
    report = run("jobs", "report", trained.document["job"], "-o", tmp_path / "report")
    assert report.status == 0
    assert "Hardest triplets" in (tmp_path / "report" / "report.html").read_text()

    assert run("dataset", "delete", "flawed", "--yes").status == 0
    assert run("dataset", "show", "flawed").status == 1


def test_a_wrong_list_of_exclusions_is_refused_before_anything_is_queued(run: Run, pictures: Path, tmp_path: Path, client: Client) -> None:
    assert run("dataset", "push", pictures, "--name", "listed-wrong").status == 0
    before = len(client.trainer.list_jobs())
    for text, message in (("path\nnone.png\n", "'none.png' is no picture"), ("a,b\n1,2\n", "none is called path")):
        (tmp_path / "x.csv").write_text(text)
        done = run("train", "listed-wrong", "--model", "refused", "--exclude", tmp_path / "x.csv")
        assert done.status == 2
        assert message in done.err
    assert len(client.trainer.list_jobs()) == before


def test_an_alias_moves_and_guards_its_version(run: Run, model: str) -> None:
    version = f"models/{model}/versions/1"
    made = run("models", "alias", f"{model}@production", model, "--json").document
    assert made["version"] == version
    assert run("models", "show", f"{model}@production", "--json").document["name"] == version
    refused = run("models", "delete", version, "--yes")
    assert refused.status == 1
    assert f"models/{model}@production" in refused.err
    assert run("models", "alias", f"{model}@production", model, "--etag", "stale").status == 1
    assert run("models", "alias", model, model).status == 2
    assert run("models", "unalias", f"{model}@production").status == 0
    assert run("models", "show", f"{model}@production").status == 1


def test_a_download_is_a_folder_that_timm_and_an_import_read(run: Run, model: str, tmp_path: Path) -> None:
    to = tmp_path / "bundle"
    assert run("models", "download", model, "--to", to).status == 0
    assert timm.create_model(f"local-dir:{to}", pretrained=True).num_features == 256
    again = run("models", "download", model, "--to", to)
    assert again.status == 2
    assert "not an empty folder" in again.err
    imported = run("models", "import", "--folder", to, "--name", "brought-back", "--json")
    assert imported.status == 0, imported.err
    documents = (imported.document, run("models", "show", model, "--json").document)
    assert len({each["profiles"]["plain"]["space"]["fingerprint"] for each in documents}) == 1
    (to / "README.md").write_text("edited")
    assert "README.md" in run("models", "import", "--folder", to, "--name", "brought-back").err
    for words in ((), ("--folder", to, "--timm", "resnet18"), ("--folder", to, "--size", "64"), ("--folder", tmp_path / "none")):
        assert run("models", "import", *words, "--name", "refused").status == 2
