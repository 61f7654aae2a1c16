"""Recipes over the wire: listed, shown, and brought along."""

from __future__ import annotations

import json
import tomllib

import grpc
import pytest

from lookalike_protos.trainer.v1 import jobs_pb2 as pb
from lookalike_protos.trainer.v1 import recipes_pb2
from lookalike_protos.types.v1 import operations_pb2 as operations

from .trainer_process import Trainer, refused, train_job

INVALID = grpc.StatusCode.INVALID_ARGUMENT
MINE = 'extends = "cross-entropy"\n[loop]\nepochs = 3\n'


@pytest.fixture(scope="module", autouse=True)
def _dataset(trainer: Trainer) -> None:
    trainer.push("for-recipes", {"boots/1": b"one", "clogs/1": b"two"})


def test_recipes_are_listed_by_name_in_pages(trainer: Trainer) -> None:
    whole = trainer.recipes.ListRecipes(recipes_pb2.ListRecipesRequest())
    names = [recipe.name for recipe in whole.recipes]
    assert names == sorted(names)
    assert {"recipes/cross-entropy", "recipes/triplet-two-pass", "recipes/joint-serial"} <= set(names)
    assert [recipe.name for recipe in whole.recipes if recipe.default] == ["recipes/normalised-softmax"]
    assert all(recipe.description and not recipe.toml and not recipe.complete_toml for recipe in whole.recipes)
    paged, token = [], ""
    while True:
        page = trainer.recipes.ListRecipes(recipes_pb2.ListRecipesRequest(page_size=4, page_token=token))
        paged += [recipe.name for recipe in page.recipes]
        token = page.next_page_token
        if not token:
            break
    assert paged == names


def test_a_recipe_shows_its_file_and_all_that_it_decides(trainer: Trainer) -> None:
    recipe = trainer.recipes.GetRecipe(recipes_pb2.GetRecipeRequest(name="recipes/joint-branches"))
    assert recipe.extends == "recipes/joint-serial"
    assert tomllib.loads(recipe.toml)["extends"] == "joint-serial"
    complete = tomllib.loads(recipe.complete_toml)
    assert complete["network"]["embedding"]["size"] == 2048
    assert complete["objective"]["cross_entropy"]["tap"] == "pool"
    assert complete["loop"]["clip"] == 1.0


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [
        ("recipes/tripplet-two-pass", grpc.StatusCode.NOT_FOUND, "UNKNOWN_RECIPE"),
        ("recipes/../jobs", INVALID, "INVALID_FIELD"),
        ("triplet-two-pass", INVALID, "INVALID_FIELD"),
    ],
)
def test_a_recipe_that_is_not_there_is_told(trainer: Trainer, name: str, code: grpc.StatusCode, reason: str) -> None:
    with refused(code, reason):
        trainer.recipes.GetRecipe(recipes_pb2.GetRecipeRequest(name=name))


def test_a_job_brings_a_recipe_along(trainer: Trainer) -> None:
    asked = train_job("datasets/for-recipes", recipe_toml=MINE)
    job = trainer.create(asked)
    assert (job.train.recipe, job.train.recipe_toml) == ("", MINE)
    assert trainer.wait(job.name).state == operations.STATE_SUCCEEDED
    assert MINE in _told(trainer, job.name)["recipe_toml"]


def test_a_recipe_says_what_it_starts_from_unless_the_job_does(trainer: Trainer) -> None:
    def start(**changes: object) -> pb.Init:
        return trainer.create(train_job("datasets/for-recipes", **changes)).train.init

    assert start(init=None, recipe="small-resnet18") == pb.Init(timm="resnet18")
    assert start(init=None, recipe_toml='extends = "small-resnet18"\n[network]\nstart = "random:resnet10t"') == pb.Init(random="resnet10t")
    assert start(init=pb.Init(random="test_vit"), recipe="small-resnet18") == pb.Init(random="test_vit")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"recipe_toml": 'extends = "cross-entropie"'}, "UNKNOWN_RECIPE"),
        ({"recipe_toml": 'extends = "cross-entropy"\n[lop]\nepochs = 3'}, "INVALID_RECIPE"),
        ({"recipe_toml": 'extends = "../../etc/passwd"'}, "UNKNOWN_RECIPE"),
        ({"recipe_toml": "[[["}, "INVALID_RECIPE"),
        ({"recipe_toml": "a = " + "[" * 10_000}, "INVALID_RECIPE"),
        ({"recipe_toml": MINE, "recipe": "cross-entropy"}, "INVALID_FIELD"),
        ({"recipe_toml": "#" * (64 * 1024 + 1)}, "INVALID_FIELD"),
        ({"recipe_toml": MINE, "overrides": {"loop.epochs": "many"}}, "INVALID_RECIPE"),
        ({"overrides": {"objective.metric_learning.mine.loss": "ArcfaceLoss"}}, "INVALID_RECIPE"),
    ],
)
def test_a_wrong_recipe_is_refused_before_the_job_is_queued(trainer: Trainer, changes: dict[str, object], reason: str) -> None:
    with refused(INVALID, reason):
        trainer.create(train_job("datasets/for-recipes", **changes))


def _told(trainer: Trainer, name: str) -> dict[str, str]:
    """What the worker of a job was told."""
    (path,) = trainer.folder.rglob(f"{name.removeprefix('jobs/')}/job.json")
    document: dict[str, str] = json.loads(path.read_text())
    return document
