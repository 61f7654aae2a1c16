"""Recipes: shipped ones are valid; a mistake is named with what comes nearest."""

import subprocess
import sys

import pytest

from lookalike_trainer.training.errors import JobError, Reason
from lookalike_trainer.training.recipe_files import load_recipe, recipe_names
from lookalike_trainer.training.recipe_keys import recipe_keys


def test_shipped_recipes_are_valid_and_described() -> None:
    for name in recipe_names():
        assert load_recipe(name).description


def test_the_default_is_the_normalised_softmax() -> None:
    assert load_recipe() == load_recipe("") == load_recipe("normalised-softmax")


def test_overrides_are_toml_values_at_dotted_keys() -> None:
    overrides = {
        "loop.epochs": "3",
        "loop.rate": "1e-4",
        "network.embedding.size": "64",
        "network.embedding.activation": "relu",
        "augment.scale": "[0.9, 1.1]",
        "augment.flip": "true",
        "loop.phases": "[{scale = 0.5, share = 0.25}, {scale = 1.0, share = 0.75}]",
        "objective.triplet.margin": "0.3",
    }
    recipe = load_recipe(None, overrides)
    assert recipe.loop.epochs == 3
    assert recipe.loop.rate == 1e-4
    assert recipe.network.embedding is not None
    assert (recipe.network.embedding.size, recipe.network.embedding.activation) == (64, "relu")
    assert recipe.augment.scale == (0.9, 1.1)
    assert recipe.augment.flip
    assert [phase.scale for phase in recipe.loop.phases] == [0.5, 1.0]
    assert recipe.objective.triplet is not None
    assert recipe.objective.triplet.margin == 0.3


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("loop.epoch", "3", ["`loop.epoch`", "3", "`loop.epochs`"]),
        ("epochs", "3", ["`epochs`", "`loop.epochs`"]),
        ("augment.rotaton", "3", ["`augment.rotation`"]),
        ("loop.batch_norm", "freezed", ["`loop.batch_norm`", '"freezed"', "`frozen`"]),
        ("loop.rate", "fast", ["`loop.rate`", '"fast"', "number"]),
        ("loop.warm_up", "2", ["`loop.warm_up`", "2", "`0.9`"]),
        ("pixels.size", "8", ["`pixels.size`", "8", "`16`", "'auto'"]),
        ("augment.scale", "[1.2, 0.8]", ["`augment`", "from 1.2 to 0.8"]),
        ("loop.phases", "[{scale = 1.0, share = 0.5}]", ["`loop`", "0.5 instead of 1"]),
        ("network.embedding.activation", "rellu", ["`relu`"]),
    ],
)
def test_a_mistake_names_the_key_what_it_got_and_what_comes_nearest(key: str, value: str, expected: list[str]) -> None:
    with pytest.raises(JobError) as caught:
        load_recipe(None, {key: value, **({"network.embedding.size": "8"} if "embedding" in key else {})})
    assert caught.value.reason is Reason.INVALID_RECIPE
    for part in expected:
        assert part in str(caught.value)


def test_an_unknown_recipe_is_answered_with_those_there_are() -> None:
    with pytest.raises(JobError, match="did you mean `normalised-softmax`") as caught:
        load_recipe("normalized-softmax")
    assert caught.value.reason is Reason.UNKNOWN_RECIPE


def test_keys_are_those_of_the_recipe() -> None:
    assert {"loop.epochs", "loop.phases", "objective.triplet.margin", "network.embedding.size"} <= set(recipe_keys())


def test_checking_a_recipe_needs_no_torch() -> None:
    code = (
        "import sys; from lookalike_trainer.training.recipe_files import load_recipe; load_recipe(); "
        "import lookalike_trainer.training.job; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
