"""`auto` becomes numbers by stated rules."""

import pytest

from lookalike_trainer.training.errors import JobError
from lookalike_trainer.training.job import Start
from lookalike_trainer.training.recipe_files import load_recipe
from lookalike_trainer.training.resolve import TrainingSet, choose_batch, choose_epochs, choose_network, plan_pixels
from lookalike_trainer.training.start import open_start

CNN = open_start(Start(kind="random", name="test_efficientnet"), None)
VIT = open_start(Start(kind="random", name="test_vit"), None)


@pytest.mark.parametrize(
    ("classes", "largest", "expected"),
    [(700, 7, (32, 4)), (10, 100, (10, 12)), (10, 5, (10, 5)), (2, 1000, (2, 64)), (3, 1, (3, 2))],
)
def test_a_batch_has_128_pictures_where_the_data_allow(classes: int, largest: int, expected: tuple[int, int]) -> None:
    assert choose_batch(load_recipe("cross-entropy"), TrainingSet(classes * largest, classes, largest)) == expected


@pytest.mark.parametrize(("classes", "largest", "expected"), [(700, 7, (40, 2)), (10, 100, (10, 8)), (10, 5, (10, 5)), (3, 1, (3, 2))])
def test_the_default_recipe_takes_many_classes_a_batch(classes: int, largest: int, expected: tuple[int, int]) -> None:
    assert choose_batch(load_recipe(), TrainingSet(classes * largest, classes, largest)) == expected


def test_a_batch_that_is_asked_for_is_taken_but_has_no_class_twice() -> None:
    recipe = load_recipe(None, {"sampler.classes": "64", "sampler.pictures": "2"})
    assert choose_batch(recipe, TrainingSet(1000, 100, 10)) == (64, 2)
    assert choose_batch(recipe, TrainingSet(100, 10, 10)) == (10, 2)


@pytest.mark.parametrize(("pictures", "epochs"), [(4900, 12), (60, 40), (73_500, 1)])
def test_epochs_follow_from_the_number_of_pictures(pictures: int, epochs: int) -> None:
    assert choose_epochs(load_recipe(), TrainingSet(pictures, 100, 10), "cpu") == epochs


def test_epochs_follow_from_the_passes_that_are_asked_for() -> None:
    recipe = load_recipe(None, {"loop.passes": "10000"})
    assert choose_epochs(recipe, TrainingSet(1000, 100, 10), "cpu") == 10
    assert choose_epochs(load_recipe(None, {"loop.epochs": "3"}), TrainingSet(9, 3, 3), "cuda") == 3


def test_sizes_follow_from_the_device_and_phases_from_the_serving_size() -> None:
    assert plan_pixels(load_recipe(), "cpu", CNN).serving == 96
    assert plan_pixels(load_recipe(), "cuda", CNN).serving == 224
    phases = "[{scale = 0.667, share = 0.5}, {scale = 1.0, share = 0.5}]"
    plan = plan_pixels(load_recipe(None, {"loop.phases": phases}), "cpu", CNN)
    assert plan.phases == (64, 96)


def test_a_network_for_one_size_is_built_for_it_and_takes_no_other() -> None:
    recipe = load_recipe(None, {"pixels.size": "48"})
    plan = plan_pixels(recipe, "cpu", VIT)
    network = choose_network(recipe, plan, VIT)
    assert (network.image_size, network.pool) == (48, "token")
    with pytest.raises(JobError, match="one size"):
        plan_pixels(load_recipe(None, {"loop.phases": "[{scale = 0.5, share = 1.0}]"}), "cpu", VIT)


def test_an_objective_on_a_tap_that_is_not_there_is_refused() -> None:
    recipe = load_recipe(None, {"objective.normalised_softmax.tap": "embedding"})
    with pytest.raises(JobError, match=r"network\.embedding\.size"):
        choose_network(recipe, plan_pixels(recipe, "cpu", CNN), CNN)
