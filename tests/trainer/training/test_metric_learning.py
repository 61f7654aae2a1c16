"""Losses and miners of pytorch-metric-learning by name: valid ones train, wrong ones are told."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lookalike_model.network import RetrievalNetwork
from lookalike_model.spec import ChannelStatistics, NetworkSpec
from lookalike_trainer.training import metric_learning_catalog as catalog
from lookalike_trainer.training.batches import TrainingData
from lookalike_trainer.training.checkpoints import Checkpoints
from lookalike_trainer.training.errors import JobError, Reason
from lookalike_trainer.training.interruption import Interruption
from lookalike_trainer.training.job import Start
from lookalike_trainer.training.loop import Trainer
from lookalike_trainer.training.metric_learning import MetricLearning
from lookalike_trainer.training.objective_recipe import MetricLearningRecipe, ObjectiveRecipe
from lookalike_trainer.training.objectives import Objective
from lookalike_trainer.training.pixels import PixelStore
from lookalike_trainer.training.recipe_files import load_recipe
from lookalike_trainer.training.resolve import PixelPlan, ResolvedRecipe
from lookalike_trainer.training.sampler import ClassBalancedSampler
from lookalike_trainer.training.state import TrainingState

CLASSES, EACH, SIZE, STEPS = 8, 6, 32, 30
STATISTICS = ChannelStatistics(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

WITHOUT_MINER = [
    'loss = "ArcFaceLoss"',
    'loss = "ProxyAnchorLoss"\nrate = 100.0',
    'loss = "SoftTripleLoss"\nloss_params = {centers_per_class = 2}',
    'loss = "SubCenterArcFaceLoss"',
    'loss = "CircleLoss"',
    'loss = "MultiSimilarityLoss"\nloss_params = {alpha = 2, beta = 40, base = 0.5}',
    'loss = "SupConLoss"',
    'loss = "NTXentLoss"\nloss_params = {temperature = 0.1}',
    'loss = "ContrastiveLoss"',
    'loss = "DynamicSoftMarginLoss"',
    'loss = "TripletMarginLoss"\nloss_params = {triplets_per_anchor = 4}',
]
WITH_MINER = [
    'loss = "MultiSimilarityLoss"\nminer = "MultiSimilarityMiner"\nminer_params = {epsilon = 0.2}',
    'loss = "TripletMarginLoss"\nminer = "DistanceWeightedMiner"',
    'loss = "TripletMarginLoss"\nminer = "BatchEasyHardMiner"\nminer_params = {pos_strategy = "hard", neg_strategy = "semihard"}',
    'loss = "TripletMarginLoss"\nminer = "AngularMiner"',
    'loss = "ContrastiveLoss"\nminer = "PairMarginMiner"\ndistance = "CosineSimilarity"\nloss_params = {pos_margin = 0.9}',
]


def trainer_of(part: str) -> Trainer:
    """Of 30 steps on one part, on noisy pictures in a colour a class."""
    text = f'description = "test"\n[objective.metric_learning.it]\n{part}\n[loop]\nrate = 3e-3\nrecompute = "none"'
    resolved = ResolvedRecipe(
        name="file",
        recipe=load_recipe(text=text),
        start=Start(kind="random", name="test_efficientnet"),
        seed=0,
        network=NetworkSpec(architecture="test_efficientnet"),
        pixels=PixelPlan(serving=SIZE, phases=(SIZE,)),
        classes_per_batch=CLASSES,
        pictures_per_class=EACH // 2,
        epochs=STEPS // 2,
        device="cpu",
        threads=torch.get_num_threads(),
    )
    labels = np.repeat(np.arange(CLASSES), EACH)
    rows = {label: np.flatnonzero(labels == label) for label in range(CLASSES)}
    sampler = ClassBalancedSampler(rows, CLASSES, EACH // 2)
    return Trainer(resolved, TrainingData(PixelStore({SIZE: coloured(labels)}, [], []), labels, sampler), Interruption())


def coloured(labels: np.ndarray) -> np.ndarray:
    random = np.random.default_rng(0)
    colours = random.integers(40, 215, (CLASSES, 1, 1, 3))[labels]
    pixels: np.ndarray = (colours + random.integers(-40, 40, (len(labels), SIZE, SIZE, 3))).astype(np.uint8)
    return pixels


def begun(trainer: Trainer) -> TrainingState:
    torch.manual_seed(0)
    return trainer.begin(RetrievalNetwork(NetworkSpec(architecture="test_efficientnet"), STATISTICS))


class Killed(BaseException):
    """Nothing in the loop catches it, as nothing catches a SIGKILL."""


def nothing(_done: int, _total: int) -> None:
    """Done after a step."""


def epochs(trainer: Trainer, state: TrainingState, after_step: Callable[[int, int], None] = nothing) -> Iterator[float]:
    """The rest of the training, an epoch at a time."""
    while state.epoch < trainer.epochs:
        trainer.run_epoch(state, after_step)
        yield state.conclude_epoch({}).loss


def killed_and_resumed(part: str, folder: Path) -> TrainingState:
    """A checkpoint in the middle of an epoch, death five steps later, and the rest by another trainer."""
    trainer, checkpoints = trainer_of(part), Checkpoints(folder)
    state = begun(trainer)

    def after_step(done: int, _total: int) -> None:
        if done == 11:
            checkpoints.write(state.state_dict())
        if done == 16:
            raise Killed

    with pytest.raises(Killed):
        list(epochs(trainer, state, after_step))
    trainer = trainer_of(part)
    resumed = trainer.begin(RetrievalNetwork(NetworkSpec(architecture="test_efficientnet"), STATISTICS))
    kept = checkpoints.newest()
    assert kept
    resumed.load_state_dict(kept)
    list(epochs(trainer, resumed))
    return resumed


def separation(network: RetrievalNetwork) -> float:
    """How much farther pictures of other classes are than those of the same, as a share of the mean distance."""
    labels = np.repeat(np.arange(CLASSES), EACH)
    with torch.no_grad():
        features = network.eval()(network.to_input(torch.from_numpy(coloured(labels))))["pool"]
    unit = torch.nn.functional.normalize(features, dim=1)
    distances = torch.cdist(unit, unit).numpy()
    same = labels[:, None] == labels
    return float((distances[~same].mean() - distances[same].mean()) / distances.mean())


@pytest.mark.parametrize("part", WITHOUT_MINER + WITH_MINER)
def test_a_loss_by_name_learns_in_thirty_steps_and_ends_alike_if_killed(part: str, tmp_path: Path) -> None:
    trainer = trainer_of(part)
    state = begun(trainer)
    assert trainer.steps == STEPS
    before = separation(state.network)
    assert all(np.isfinite(loss) for loss in epochs(trainer, state))
    resumed = killed_and_resumed(part, tmp_path)
    results = [[*each.network.state_dict().values(), *each.objective.parameters()] for each in (state, resumed)]
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))
    assert separation(state.network) > before + 0.1


@pytest.mark.parametrize("part", ['loss = "ArcFaceLoss"\nrate = 7.0', 'loss = "ProxyAnchorLoss"'])
def test_weights_of_a_loss_learn_at_a_rate_of_their_own(part: str) -> None:
    trainer = trainer_of(part)
    state = begun(trainer)
    own = list(state.objective.parameters())
    assert len(own) == 1
    groups = [group for group in state.optimiser.param_groups if any(weight is own[0] for weight in group["params"])]
    assert [group["initial_lr"] for group in groups] == [pytest.approx(3e-3 * (7 if "rate" in part else 10))]
    before = own[0].detach().clone()
    next(epochs(trainer, state))
    assert not torch.equal(before, own[0])
    assert any(torch.equal(own[0], tensor) for tensor in state.objective.state_dict().values() if torch.is_tensor(tensor))


def test_weights_of_a_loss_are_not_in_the_bundle(work: Callable[[Path], int], job_folder: Callable[..., Path]) -> None:
    folder = job_folder(recipe="proxy-anchor")
    assert work(folder) == 0
    assert not (folder / "bundle" / "heads.safetensors").exists()


@pytest.mark.parametrize(
    ("loss", "miner"),
    [("DynamicSoftMarginLoss", None), ("TripletMarginLoss", "DistanceWeightedMiner"), ("ArcFaceLoss", None)],
)
def test_what_a_loss_keeps_and_draws_goes_on_from_its_state(loss: str, miner: str | None, tmp_path: Path) -> None:
    def part() -> MetricLearning:
        torch.manual_seed(0)
        return MetricLearning("metric_learning.it", 8, 4, MetricLearningRecipe(loss=loss, miner=miner), seed=5)

    def batch(number: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randn(16, 8, generator=torch.Generator().manual_seed(number)), torch.arange(4).repeat(4)

    whole, broken = part(), part()
    expected = [whole(*batch(number)).item() for number in range(6)]
    assert [broken(*batch(number)).item() for number in range(3)] == expected[:3]
    torch.save(broken.state_dict(), tmp_path / "state")
    resumed = part()
    resumed.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    torch.manual_seed(99)
    assert [resumed(*batch(number)).item() for number in range(3, 6)] == expected[3:]


def test_a_part_leaves_the_streams_of_others_alone() -> None:
    part = MetricLearning("metric_learning.it", 8, 4, MetricLearningRecipe(loss="NPairsLoss", miner="DistanceWeightedMiner"), seed=5)
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    part(torch.randn(16, 8, generator=torch.Generator().manual_seed(0)), torch.arange(4).repeat(4))
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # type: ignore[index]


def test_the_catalogue_is_what_the_library_builds() -> None:
    """Every name with the parameters that must be given can be made, and every parameter is one of its constructor's."""
    from pytorch_metric_learning import losses, miners

    needed: dict[str, dict[str, Any]] = {"RankedListLoss": {"margin": 0.4, "Tn": 10}}
    for name in catalog.names("losses"):
        recipe = MetricLearningRecipe.model_validate({"loss": name, "loss_params": needed.get(name, {})})
        MetricLearning("metric_learning.it", 8, 4, recipe, seed=0)
    for name in catalog.names("miners"):
        MetricLearning("metric_learning.it", 8, 4, MetricLearningRecipe(loss="TripletMarginLoss", miner=name), seed=0)
    assert len(catalog.names("losses")) >= 30
    assert {"margin", "scale"} <= set(catalog.parameters("ArcFaceLoss"))
    assert hasattr(losses, "ArcFaceLoss")
    assert set(catalog.names("miners")) <= set(dir(miners))


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"loss": "MultiSimilartyLoss"}, "nearest is `MultiSimilarityLoss`"),
        ({"loss": "TripletMarginLoss", "miner": "MultiSimilarityMine"}, "nearest is `MultiSimilarityMiner`"),
        ({"loss": "ContrastiveLoss", "distance": "Cosine"}, "nearest is `CosineSimilarity`"),
        ({"loss": "ArcFaceLoss", "loss_params": {"margn": 1}}, "nearest is `margin`"),
        ({"loss": "ArcFaceLoss", "loss_params": {"num_classes": 1}}, "no parameter of ArcFaceLoss"),
        ({"loss": "TripletMarginLoss", "miner": "AngularMiner", "miner_params": {"angel": 1}}, "nearest is `angle`"),
        ({"loss": "TripletMarginLoss", "miner_params": {"angle": 1}}, "there is none"),
        ({"loss": "RankedListLoss"}, "margin is missing"),
        ({"loss": "VICRegLoss"}, "two views"),
        ({"loss": "CrossBatchMemory"}, "it must be one of"),
        ({"loss": "__class__"}, "it must be one of"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(document: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        MetricLearningRecipe.model_validate(document)


def test_what_the_library_refuses_is_a_sentence() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    wrong_value = MetricLearningRecipe(loss="PNPLoss", loss_params={"variant": "Z"})
    with pytest.raises(JobError, match=r"objective\.metric_learning\.it.*PNPLoss refuses: variant=Z") as caught:
        MetricLearning("metric_learning.it", 8, 3, wrong_value, seed=0)
    assert caught.value.reason is Reason.INVALID_RECIPE
    with pytest.raises(JobError, match="SmoothAPLoss refuses"):
        MetricLearning("metric_learning.it", 8, 3, MetricLearningRecipe(loss="SmoothAPLoss"), seed=0)(torch.randn(6, 8), labels)


def test_several_parts_are_summed() -> None:
    recipe = ObjectiveRecipe(
        metric_learning={"a": MetricLearningRecipe(loss="ContrastiveLoss", weight=0.25), "b": MetricLearningRecipe(loss="CircleLoss")}
    )
    network = RetrievalNetwork(NetworkSpec(architecture="test_efficientnet"), STATISTICS)
    objective = Objective(recipe, network, 3)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    outputs = network(torch.randn(6, 3, 32, 32))
    a, b = (objective.parts[f"metric_learning_{name}"](outputs["pool"], labels) for name in "ab")
    torch.testing.assert_close(objective(outputs, labels), 0.25 * a + b)
