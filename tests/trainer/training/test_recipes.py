"""Recipes: shipped ones are valid; a mistake is named with what comes nearest."""

import subprocess
import sys

import pytest

from lookalike_trainer.training.errors import JobError, Reason
from lookalike_trainer.training.recipe_files import complete_text, extended_by, load_recipe, recipe_label, recipe_names
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


def test_a_file_of_ones_own_extends_a_shipped_recipe() -> None:
    text = """
    extends = "joint-serial"
    without = ["objective.cross_entropy"]
    [network.embedding]
    size = 512
    [objective.triplet]
    margin = "soft"
    """
    mine, shipped = load_recipe(text=text, overrides={"loop.epochs": "7"}), load_recipe("joint-serial")
    assert mine.network.embedding is not None
    assert (mine.network.embedding.size, mine.loop.epochs) == (512, 7)
    assert mine.objective.cross_entropy is None
    assert mine.objective.triplet is not None
    assert (mine.objective.triplet.margin, mine.objective.triplet.tap) == ("soft", "embedding")
    assert mine.loop.rate == shipped.loop.rate
    assert recipe_label(None, text) == "joint-serial+file"


def test_a_file_may_stand_alone() -> None:
    text = 'description = "mine"\n[objective.triplet]'
    assert load_recipe(text=text).objective.triplet is not None
    assert recipe_label(None, text) == "file"
    assert recipe_label("cross-entropy", None) == "cross-entropy"
    assert recipe_label(None, None) == "normalised-softmax"


@pytest.mark.parametrize("name", recipe_names())
def test_the_complete_text_of_a_recipe_is_the_recipe(name: str) -> None:
    assert load_recipe(text=complete_text(load_recipe(name))) == load_recipe(name)
    assert extended_by(name) in {None, *recipe_names()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[lop]\nepochs = 3", ["`lop.epochs`", "3", "`loop.epochs`"]),
        ("[loop]\nepoch = 3", ["`loop.epoch`", "`loop.epochs`"]),
        ("loop = 3", ["`loop` got 3", "a section"]),
        ("surprise = true", ["`surprise`", "True", "nearest is"]),
        ("[[loop.phases]]\nscal = 1.0\nshare = 1.0", ["`loop.phases.0.scal`", "`loop.phases.0.scale`"]),
        ("[objective.triplet]\nmargin = 'sft'", ["`objective.triplet.margin`", '"sft"', "`soft`"]),
        ("[objective.triplet]\nmining = 'batch hard'", ["`objective.triplet.mining`", "`batch_hard`"]),
        ("[objective.triplet]\nmining = 'semi_hard'\nmargin = 'soft'", ["semi_hard", "margin must be a number"]),
        ("[objective.metric_learning.mine]\nloss = 'ArcfaceLoss'", ["`objective.metric_learning.mine.loss`", "`ArcFaceLoss`"]),
        (
            "[objective.metric_learning.mine]\nlos = 'ArcFaceLoss'",
            ["`objective.metric_learning.mine.los`", "`objective.metric_learning.mine.loss`"],
        ),
        ("[objective.metric_learning.mine]\nloss = 'ArcFaceLoss'\nloss_params = {scal = 3}", ["loss_params.scal", "`scale`"]),
        ("[objective.metric_learning.Mine]\nloss = 'ArcFaceLoss'", ["'Mine'", "lower-case"]),
        ("[objective.metric_learning.mine]\nweight = 2.0", ["`objective.metric_learning.mine.loss`", "missing"]),
        ("[network.embedding]\nsize = 8\nactivation = 'gello'", ["`network.embedding.activation`", "`gelu`"]),
        ("[network]\nstart = 'file:/etc/passwd'", ["`network.start`", "`timm:NETWORK`"]),
        ("loop.clip = nan", ["`loop.clip`"]),
        ("without = ['objective.normalised-softmax']", ["`without`", "`objective.normalised_softmax`"]),
        ("without = ['objective.normalised_softmax']", ["`objective`", "at least one of"]),
        ("without = 3", ["`without`", "list"]),
        ("[[[", ["not TOML"]),
        ("a = " + "[" * 5000, ["nested too deeply"]),
        ("a = " + "[" * 50 + "]" * 50, ["nested deeper"]),
        ("#" * (1 << 17), ["bytes, at most 65536"]),
    ],
)
def test_a_mistake_in_a_file_names_the_key_what_it_got_and_what_comes_nearest(text: str, expected: list[str]) -> None:
    with pytest.raises(JobError) as caught:
        load_recipe(text=f'extends = "normalised-softmax"\n{text}')
    assert caught.value.reason is Reason.INVALID_RECIPE
    for part in expected:
        assert part in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('extends = "joint-seriel"', Reason.UNKNOWN_RECIPE),
        ('extends = "../joint-serial"', Reason.UNKNOWN_RECIPE),
        ("extends = 3", Reason.INVALID_RECIPE),
        ("[loop]", Reason.INVALID_RECIPE),
        ('without = ["loop"]', Reason.INVALID_RECIPE),
    ],
)
def test_what_a_file_cannot_extend_is_told(text: str, reason: Reason) -> None:
    with pytest.raises(JobError) as caught:
        load_recipe(text=text)
    assert caught.value.reason is reason


def test_the_networks_of_recipes_are_timms() -> None:
    import timm

    for name in recipe_names():
        kind, _, network = load_recipe(name).network.start.partition(":")
        if kind in ("timm", "random"):
            timm.get_pretrained_cfg(network)
            assert network.partition(".")[0] in timm.list_models(), name


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
