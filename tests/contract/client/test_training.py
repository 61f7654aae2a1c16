"""Datasets, training and models by the command."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lookalike import Client, State

Run = Callable[..., Any]
Draw = Callable[[Path, int, int], Path]

TINY = ("--init", "random:test_efficientnet", "--set", "loop.epochs=1", "--set", "pixels.size=32")


def test_push_sends_what_is_missing_and_lists_what_is_no_picture(
    run: Run, draw: Draw, tmp_path: Path, bad_files: Callable[[Path], dict[str, str]]
) -> None:
    for kind in range(3):
        draw(tmp_path / f"kind{kind}" / "1.png", kind, 20)
    draw(tmp_path / "kind0" / "2.png", 0, 21)
    bad_files(tmp_path / "kind0")
    first = run("dataset", "push", tmp_path, "--name", "pushed", "--json")
    assert first.status == 0, first.err
    assert (first.document["revision"]["class_count"], first.document["uploaded_count"]) == (3, 6)
    # What cannot be decoded is found by the trainer: a push looks at the beginning of each file only.
    assert {each["id"] for each in first.document["left_out"]} == {"kind0/notes.txt", "kind0/empty.png"}
    assert first.document["single_picture_classes"] == ["kind1", "kind2"]
    assert "2 classes have one picture" in first.err
    second = run("dataset", "push", tmp_path, "--name", "pushed", "--json").document
    assert second["uploaded_count"] == 0
    assert second["revision"]["name"] == first.document["revision"]["name"]


def test_csv_of_path_and_label_is_pushed(run: Run, draw: Draw, tmp_path: Path) -> None:
    for kind in range(2):
        draw(tmp_path / f"{kind}.png", kind, 30)
    (tmp_path / "labels.csv").write_text("path,label\n0.png,round\n1.png,square\n")
    assert run("dataset", "push", tmp_path / "labels.csv", "--name", "listed", "--json").document["revision"]["class_count"] == 2


def test_dataset_that_teaches_nothing_is_refused(run: Run, draw: Draw, tmp_path: Path, client: Client) -> None:
    draw(tmp_path / "only" / "1.png", 0, 0)
    for source, name, message in (
        (tmp_path, "refused", "one class only"),
        (tmp_path / "only", "refused", "no class folders"),
        (tmp_path / "none", "refused", "there is no folder"),
        (tmp_path, "../refused", "no name for one of the datasets"),
    ):
        done = run("dataset", "push", source, "--name", name)
        assert done.status == 2
        assert message in done.err
    assert "datasets/refused" not in [each.name for each in client.trainer.list_datasets()]


@pytest.fixture(scope="module")
def dataset(data: Path, classes: Path) -> str:
    from lookalike.cli import main

    assert main(["dataset", "push", str(classes / "references"), "--name", "kinds", "--data", str(data)]) == 0
    return "kinds"


def test_training_makes_the_model_that_index_then_takes(run: Run, draw: Draw, dataset: str, tmp_path: Path) -> None:
    done = run("train", dataset, "--model", "kinds", *TINY, "--json")
    assert done.status == 0, done.err
    version = done.document
    assert (version["name"], version["origin"]) == ("models/kinds/versions/1", "TRAINED")
    assert "train_loss" in done.err
    assert version["notes"], "with fewer than ten classes it says that nothing was held out"
    assert run("models", "show", "kinds").status == 0
    assert "models/kinds" in [each["name"] for each in run("models", "list", "--json").document["models"]]
    assert "train kinds on kinds/revisions/1" in run("jobs", "list").out
    draw(tmp_path / "1.png", 0, 0)
    indexed = run("index", tmp_path, "--collection", "by-newest", "--json").document
    assert (indexed["model"], indexed["model_why"]) == ("models/kinds/versions/1", "the newest trained model")
    assert run("models", "delete", "kinds", "--yes").status == 0
    assert run("models", "show", "kinds").status == 1


def test_ctrl_c_leaves_the_training_and_says_how_to_watch_and_cancel(run: Run, interrupt: Run, dataset: str, client: Client) -> None:
    words = (
        "train",
        dataset,
        "--model",
        "left",
        "--init",
        "random:test_efficientnet",
        "--set",
        "loop.epochs=2000",
        "--set",
        "pixels.size=32",
    )
    done = interrupt(*words, once="was queued")
    assert (done.status, done.out) == (1, "")
    (job,) = [job for job in client.trainer.list_jobs() if job.train and job.train.model == "left"]
    number = job.name.removeprefix("jobs/")
    assert f"lookalike jobs watch {number}" in done.err
    assert f"lookalike jobs cancel {number}" in done.err
    assert "Traceback" not in done.err
    assert not job.state.ended
    assert interrupt("jobs", "watch", number, once="starts").status == 1
    assert run("jobs", "cancel", number).status == 0
    for _ in range(300):
        if client.trainer.get_job(job.name).state.ended:
            break
        time.sleep(0.1)
    assert client.trainer.get_job(job.name).state is State.CANCELLED
    watched = run("jobs", "watch", number)
    assert watched.status == 1
    assert "made no model" in watched.err


def test_wrong_training_is_refused_before_it_begins(run: Run, dataset: str, client: Client, tmp_path: Path) -> None:
    before = len(client.trainer.list_jobs())
    for words, status, message in (
        (("--recipe", "nonsense"), 2, "nonsense"),
        (("--set", "loop.epochs=many"), 2, "epochs"),
        (("--set", "loop.epochs"), 2, "KEY=VALUE"),
        (("--init", "nonsense"), 2, "nothing to start from"),
        (("--init", "model:nobody"), 1, "nobody"),
        (("--init", f"weights:resnet18={tmp_path / 'none.pth'}"), 2, "there is no weights file"),
    ):
        done = run("train", dataset, "--model", "refused", *words)
        assert done.status == status, (words, done.err)
        assert message in done.err
    assert run("train", "no-such-dataset", "--model", "refused").status == 1
    assert run("train", dataset, "--model", "../refused").status == 2
    assert len(client.trainer.list_jobs()) == before


def test_weights_that_do_not_fit_make_no_model(run: Run, tiny_weights: Path) -> None:
    done = run("models", "import", "--timm", "resnet18", "--weights", tiny_weights, "--name", "unfit")
    assert done.status == 1
    assert "made no model" in done.err
    assert run("models", "show", "unfit").status == 1


def test_recipes_are_listed_and_shown_and_a_file_of_ones_own_is_taken(run: Run, dataset: str, client: Client, tmp_path: Path) -> None:
    listed = run("recipes", "list", "--json").document["recipes"]
    assert {"recipes/triplet-two-pass", "recipes/joint-serial"} <= {each["name"] for each in listed}
    assert "triplet-two-pass" in run("recipes", "list").out
    shown = tomllib.loads(run("recipes", "show", "triplet-two-pass").out)
    assert shown["objective"]["triplet"]["mining"] == "two_pass"
    assert tomllib.loads(run("recipes", "show", "joint-branches", "--file").out)["extends"] == "joint-serial"
    assert run("recipes", "show", "triplet-to-pass").status == 1

    mine = tmp_path / "mine.toml"
    mine.write_text('extends = "cross-entropy"\n[objective.triplet]\nmargin = "soft"\n')
    done = run("train", dataset, "--model", "mine", "--recipe-file", mine, *TINY, "--json")
    assert done.status == 0, done.err
    spec = client.trainer.get_job(done.document["job"]).train
    assert spec is not None
    assert spec.recipe_toml == mine.read_text()


def test_one_recipe_goes_on_from_what_another_made(run: Run, dataset: str, client: Client) -> None:
    words = ("--recipe", "cross-entropy", "--then", "triplet-two-pass", "--set", "network.embedding.size=8")
    done = run("train", dataset, "--model", "chained", *words, *TINY, "--json")
    assert done.status == 0, done.err
    assert done.document["name"] == "models/chained/versions/2"
    jobs = [client.trainer.get_job(version.job) for version in client.trainer.list_model_versions("models/chained")]
    assert [(job.train.recipe, job.train.init.model_version) for job in jobs if job.train and job.train.init] == [
        ("triplet-two-pass", "models/chained/versions/1"),
        ("cross-entropy", None),
    ]


def test_a_wrong_recipe_file_is_a_sentence(run: Run, dataset: str, client: Client, tmp_path: Path) -> None:
    before = len(client.trainer.list_jobs())
    mine = tmp_path / "mine.toml"
    for content, words, message in (
        (None, (), "cannot be read"),
        (b"\xff\xfe\x00", (), "UTF-8"),
        (b"", (), "must have 1 to"),
        (b"#" * 70_000, (), "must have 1 to"),
        (b"[loop]\nepochs = 3", ("--recipe", "cross-entropy"), "give one"),
        (b'extends = "cross-entropy"\n[loop]\nepoch = 3', (), "nearest is `loop.epochs`"),
        (b'extends = "cross-entropy"', ("--then", "no-such"), "no-such"),
    ):
        if content is not None:
            mine.write_bytes(content)
        done = run("train", dataset, "--model", "refused", "--recipe-file", mine, *words)
        assert done.status in (1, 2)
        assert message in done.err
        assert "Traceback" not in done.err
    assert len(client.trainer.list_jobs()) == before
