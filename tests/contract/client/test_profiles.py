"""Profiles made by the command: what they cost the version before (nothing), and that they are served, searched and chosen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lookalike import AlreadyExists, Client, InvalidArgument, ProfileSpec, Target
from lookalike.cli import main
from lookalike_images import decode, preprocess
from lookalike_model.bundle import read_bundle

Run = Callable[..., Any]
Draw = Callable[[Path, int, int], Path]


@pytest.fixture(scope="module")
def viewed(data: Path, tiny_weights: Path) -> str:
    """A model whose second version has a profile with views."""
    words = ["models", "import", "--timm", "test_efficientnet", "--weights", str(tiny_weights), "--size", "32", "--name", "viewed"]
    assert main([*words, "--data", str(data)]) == 0
    assert main(["models", "profile", "viewed", "--name", "both-ways", "--views", "identity,flip", "--data", str(data)]) == 0
    return "viewed"


def test_a_new_version_has_the_profile_and_the_old_one_is_as_it_was(
    run: Run, client: Client, viewed: str, draw: Draw, tmp_path: Path
) -> None:
    first, second = (client.trainer.get_model_version(f"models/{viewed}/versions/{number}") for number in (1, 2))
    assert set(first.profiles) == {"plain"}
    assert set(second.profiles) == {"plain", "both-ways"}
    assert second.default_profile == "plain"
    assert second.origin is first.origin
    assert second.profiles["plain"].space.fingerprint == first.profiles["plain"].space.fingerprint
    added = second.profiles["both-ways"]
    assert (added.tap, added.views, added.projected) == ("pool", ("identity", "flip"), False)
    job = client.trainer.get_job(second.job)
    assert job.profile == ProfileSpec(first.name, "both-ways", ("identity", "flip"), "pool")
    shown = run("models", "show", viewed).out
    assert "mean of identity, flip" in shown
    assert f"profile both-ways of {viewed}/versions/1" in run("jobs", "list").out


def test_the_embedder_proves_the_profile_and_embeds_by_it(run: Run, client: Client, viewed: str, draw: Draw, tmp_path: Path) -> None:
    pictures = [draw(tmp_path / f"{number}.png", number % 3, number).read_bytes() for number in range(3)]
    name = f"models/{viewed}/versions/2"
    served = client.embedder.embed(Target(name, "both-ways"), pictures).vectors.astype(np.float64)
    assert run("models", "download", name, "--to", tmp_path / "out").status == 0
    bundle = read_bundle(tmp_path / "out")
    for picture, ours in zip(pictures, served, strict=True):
        pixels = preprocess(decode(picture), bundle.preprocessing)
        views = [pixels, np.ascontiguousarray(pixels[:, ::-1])]
        with torch.inference_mode():
            each = [bundle.network(bundle.network.to_input(torch.from_numpy(view[None])))["pool"][0].double().numpy() for view in views]
        mean = (each[0] + each[1]) / 2
        assert 1 - ours @ mean / np.linalg.norm(mean) < 1e-3  # in bf16 too
        assert 1 - ours @ each[0] / np.linalg.norm(each[0]) > 1e-3


def test_a_collection_of_the_profile_is_searched_by_it(run: Run, client: Client, viewed: str, flat: Path) -> None:
    indexed = run("index", flat / "references", "--collection", "by-views", "--model", f"{viewed}:both-ways", "--json")
    assert indexed.status == 0, indexed.err
    assert client.indexer.get_collection("collections/by-views").space.profile == "both-ways"
    picture = next((flat / "references").iterdir())
    found = run("search", picture, "--collection", "by-views", "--json")
    assert found.status == 0, found.err
    assert picture.name in found.out
    again = run("index", flat / "references", "--collection", "by-views", "--model", f"{viewed}:plain")
    assert again.status == 1
    assert "profile both-ways" in again.err


def test_a_projection_is_fitted_on_a_dataset_and_becomes_the_default(run: Run, client: Client, viewed: str, classes: Path) -> None:
    assert run("dataset", "push", classes / "references", "--name", "fitted-on").status == 0
    words = ("--name", "small", "--project", "8", "--dataset", "fitted-on", "--default", "--json")
    made = run("models", "profile", f"models/{viewed}/versions/2", *words)
    assert made.status == 0, made.err
    assert made.document["default_profile"] == "small"
    assert set(made.document["profiles"]) == {"plain", "both-ways", "small"}
    assert made.document["profiles"]["small"]["projected"] is True
    assert any("fitted on 18 pictures of 6 classes of datasets/fitted-on/revisions/1" in note for note in made.document["notes"])
    name = made.document["name"]
    answer = client.embedder.embed(Target(name), [(classes / "queries" / "kind0" / "0.png").read_bytes()])
    assert answer.vectors.shape == (1, 8)
    assert answer.space.profile == "small"


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("viewed", "--name", "x"), 2, "--views, --tap or --project"),
        (("viewed", "--name", "A B", "--views", "flip"), 2, "no name"),
        (("viewed", "--name", "x", "--views", "identity,flop"), 2, "'flop' is none of"),
        (("viewed", "--name", "x", "--views", "flip,flip"), 2, "twice"),
        (("viewed", "--name", "x", "--views", "scale-3"), 2, "0.5 to 2"),
        (("models/viewed/versions/2", "--name", "both-ways", "--views", "flip"), 1, "choose another name"),
        (("viewed", "--name", "x", "--project", "4"), 2, "--dataset"),
        (("viewed", "--name", "x", "--dataset", "d"), 2, "--project"),
        (("viewed", "--name", "x", "--project", "4", "--dataset", "nowhere"), 1, "datasets/nowhere"),
        (("viewed", "--name", "x", "--project", "70000", "--dataset", "nowhere"), 2, "out of range"),
        (("nowhere", "--name", "x", "--views", "flip"), 1, "models/nowhere"),
        (("viewed", "--name", "x", "--tap", "fc"), 2, "embedding"),
    ],
)
def test_a_wrong_profile_is_refused_before_it_is_queued(
    run: Run, client: Client, viewed: str, words: tuple[str, ...], status: int, says: str
) -> None:
    before = len(client.trainer.list_jobs())
    done = run("models", "profile", *words)
    assert done.status == status
    assert says in done.err
    assert "Traceback" not in done.err
    assert len(client.trainer.list_jobs()) == before


def test_what_only_the_network_tells_is_told_by_the_job(run: Run, viewed: str) -> None:
    done = run("models", "profile", viewed, "--name", "x", "--tap", "embedding")
    assert done.status == 1
    assert "no embedding FC" in done.err
    assert "Traceback" not in done.err


def test_refusals_have_stable_reasons(run: Run, client: Client, viewed: str) -> None:
    with pytest.raises(AlreadyExists) as there:
        client.trainer.create_job(ProfileSpec(f"models/{viewed}/versions/2", "plain", ("flip",)))
    assert there.value.reason == "PROFILE_EXISTS"
    assert run("models", "ensemble", viewed, f"models/{viewed}/versions/1", "--name", "of-viewed").status == 0
    with pytest.raises(InvalidArgument, match="is an ensemble") as ensemble:
        client.trainer.create_job(ProfileSpec("models/of-viewed/versions/1", "x", ("flip",)))
    assert ensemble.value.reason == "INVALID_FIELD"
    for spec in (
        ProfileSpec(f"models/{viewed}", "x", ("flip",)),
        ProfileSpec(f"models/{viewed}/versions/1", "", ("flip",)),
        ProfileSpec(f"models/{viewed}/versions/1", "x", tap="fc"),
        ProfileSpec(f"models/{viewed}/versions/1", "x", project_dim=4),
        ProfileSpec(f"models/{viewed}/versions/1", "x", dataset="datasets/d"),
        ProfileSpec(f"models/{viewed}/versions/1", "x", tuple(f"scale-1.{number}" for number in range(10, 27))),
    ):
        with pytest.raises(InvalidArgument):
            client.trainer.create_job(spec)


def test_a_profile_that_the_model_lacks_is_told_with_those_it_has(run: Run, viewed: str, flat: Path) -> None:
    done = run("index", flat / "references", "--collection", "never", "--model", f"{viewed}:tuned")
    assert done.status == 2
    assert "no profile 'tuned'; it has:" in done.err
