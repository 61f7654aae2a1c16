"""What the loop can be told: optimisers, schedules, layer-wise rates, early stop, precision, batches made ahead."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from lookalike_model.bundle import read_bundle
from lookalike_model.network import RetrievalNetwork
from lookalike_model.spec import EmbeddingSpec, NetworkSpec
from lookalike_model.timm_config import statistics_of
from lookalike_trainer.training import training_run, tuning
from lookalike_trainer.training.batches import Batches
from lookalike_trainer.training.errors import JobError, Reason
from lookalike_trainer.training.evaluation import HeldOut
from lookalike_trainer.training.in_parts import gradients_in_parts
from lookalike_trainer.training.loop import Trainer
from lookalike_trainer.training.objective_recipe import CrossEntropyRecipe, ObjectiveRecipe
from lookalike_trainer.training.objectives import Objective
from lookalike_trainer.training.optimisation import make_optimiser, make_schedule, slow_down
from lookalike_trainer.training.recipe import LoopRecipe
from lookalike_trainer.training.recompute import batch_norms, recompute_all_blocks, without_new_statistics
from lookalike_trainer.training.resolve import ResolvedRecipe
from lookalike_trainer.training.schedule import rate_factor
from lookalike_trainer.training.tuning import choose_by_measuring

JobFolder = Callable[..., Path]
Work = Callable[[Path], int]
Events = Callable[[Path], list[dict[str, Any]]]
SMALL = {"sampler.classes": "4", "sampler.pictures": "2"}


def network(embedding: int | None = None) -> RetrievalNetwork:
    torch.manual_seed(0)
    spec = NetworkSpec(architecture="test_efficientnet", embedding=EmbeddingSpec(size=embedding) if embedding else None)
    return RetrievalNetwork(spec, statistics_of("test_efficientnet"))


def classification_of(net: RetrievalNetwork) -> Objective:
    return Objective(ObjectiveRecipe(cross_entropy=CrossEntropyRecipe()), net, 3)


def error_of(folder: Path) -> dict[str, str]:
    error: dict[str, str] = json.loads((folder / "error.json").read_text())
    return error


@pytest.mark.parametrize("threads", [1, 2])
def test_batches_made_ahead_are_those_made_in_time(
    work: Work, job_folder: JobFolder, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    folders = [job_folder({**SMALL, "loop.threads": str(threads)}) for _ in range(2)]
    before = torch.get_num_threads()
    try:
        assert work(folders[0]) == 0
        make = Batches.__init__

        def in_time(self: Batches, *arguments: Any, ahead: bool) -> None:
            assert ahead
            make(self, *arguments, ahead=False)

        monkeypatch.setattr(Batches, "__init__", in_time)
        assert work(folders[1]) == 0
    finally:
        torch.set_num_threads(before)
    first, second = ((folder / "bundle" / "model.safetensors").read_bytes() for folder in folders)
    assert first == second


def test_gradients_in_parts_are_those_of_the_whole() -> None:
    whole, split = network().train(), network().train()
    for norm in [*batch_norms(whole), *batch_norms(split)]:
        norm.eval()  # live, it takes each part's statistics
    images, labels = torch.randn(10, 3, 32, 32), torch.arange(10) % 3
    losses = []

    def objective(outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        """Needs every pair."""
        unit = nn.functional.normalize(outputs["pool"], dim=1)
        return ((unit @ unit.T - (labels[:, None] == labels).float()) ** 2).mean()

    loss = objective(whole(images), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    losses.append(float(loss))
    loss, outputs = gradients_in_parts(split, lambda piece, _: split(piece), lambda go: go(), objective, images, labels, 4)
    losses.append(float(loss))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert outputs["pool"].shape == (10, whole.pool_size)
    for one, other in zip(whole.parameters(), split.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None and other.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-7)


def test_parts_learn_each_statistic_once() -> None:
    split, piecewise = network().train(), network().train()
    images, labels = torch.randn(8, 3, 32, 32), torch.zeros(8)
    gradients_in_parts(split, lambda piece, _: split(piece), lambda go: go(), lambda o, _: o["pool"].sum(), images, labels, 2)
    for piece in images.chunk(2):
        piecewise(piece)
    for one, other in zip(batch_norms(split), batch_norms(piecewise), strict=True):
        assert torch.equal(one.running_mean, other.running_mean)  # type: ignore[arg-type]


@pytest.mark.parametrize("architecture", ["test_efficientnet", "test_resnet", "test_vit"])
def test_recomputing_all_changes_no_gradient_and_no_statistic(architecture: str) -> None:
    torch.manual_seed(0)
    plain: Any = timm.create_model(architecture, num_classes=0).train()
    changed: Any = timm.create_model(architecture, num_classes=0).train()
    changed.load_state_dict(plain.state_dict())
    recompute_all_blocks(changed)
    images = torch.randn(2, 3, *[plain.default_cfg["input_size"][1]] * 2)
    plain(images).pow(2).sum().backward()
    loss = changed(images).pow(2).sum()
    with without_new_statistics(batch_norms(changed)):
        loss.backward()
    for (name, one), other in zip(plain.named_parameters(), changed.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=name)
    for (name, one), other in zip(plain.named_buffers(), changed.buffers(), strict=True):
        if one.is_floating_point():
            assert torch.equal(one, other), name


def test_recomputing_all_of_what_cannot_is_told() -> None:
    with pytest.raises(JobError, match="early") as caught:
        recompute_all_blocks(nn.Linear(1, 1))
    assert caught.value.reason is Reason.INVALID_RECIPE


def test_layers_learn_the_slower_the_earlier_they_are() -> None:
    net = network(embedding=8)
    optimiser = make_optimiser(net, classification_of(net), LoopRecipe(rate=1e-2, layer_decay=0.5, class_rate=4.0))
    rate = {id(weight): group["lr"] for group in optimiser.param_groups for weight in group["params"]}
    assert len(rate) == sum(1 for _ in net.parameters()) + 2
    stem, head = rate[id(net.backbone.conv_stem.weight)], rate[id(net.embedding.fc.weight)]  # type: ignore
    blocks = [rate[id(next(block.parameters()))] for block in net.backbone.blocks]  # type: ignore
    assert [stem, *blocks] == sorted([stem, *blocks])
    assert stem < blocks[-1] <= head == 1e-2
    assert optimiser.param_groups[-1]["lr"] == 4e-2


@pytest.mark.parametrize("name", ["sgd", "adam", "lamb", "lion", "nadamw", "adopt"])
def test_timms_optimisers_are_had_by_name(name: str) -> None:
    options: dict[str, bool | float | tuple[float, ...]] = {"momentum": 0.8} if name == "sgd" else {}
    net = network()
    optimiser = make_optimiser(net, classification_of(net), LoopRecipe(optimiser=name, optimiser_options=options))
    assert name in type(optimiser).__name__.lower()
    assert name != "sgd" or optimiser.param_groups[0]["momentum"] == 0.8
    assert {group["weight_decay"] for group in optimiser.param_groups} == {0.0, 0.01}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"loop.optimiser": "adamv"}, "`adam"),
        ({"loop.optimiser": "sgd", "loop.optimiser_options": "{speed = 1.0}"}, "speed"),
        ({"loop.schedule": "poly", "loop.schedule_options": "{speed = 1.0}"}, "speed"),
        ({"loop.schedule": "wave"}, "cosine"),
        ({"loop.precision": "fp16"}, "bf16"),
        ({"loop.patience": "-1"}, "0"),
    ],
)
def test_what_timm_does_not_have_is_told(work: Work, job_folder: JobFolder, overrides: dict[str, str], words: str) -> None:
    folder = job_folder(overrides)
    assert work(folder) == 1
    assert error_of(folder)["reason"] == "INVALID_RECIPE"
    assert words in error_of(folder)["message"]


def factors(loop: LoopRecipe, steps: int, per_epoch: int) -> list[float]:
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = make_schedule(optimiser, loop, steps, per_epoch)
    seen = []
    for _ in range(steps):
        seen.append(float(schedule.get_last_lr()[0]))
        optimiser.step()
        schedule.step()
    return seen


def test_schedules_are_had_by_name() -> None:
    assert factors(LoopRecipe(), 40, 10) == [rate_factor(step, 40, 0.15) for step in range(40)]
    constant = factors(LoopRecipe(schedule="constant", warm_up=0.1), 40, 10)
    assert constant == [0.25, 0.5, 0.75] + [1.0] * 37
    steps = factors(LoopRecipe(schedule="multistep", warm_up=0, schedule_options={"decay_milestones": (2, 3), "decay_rate": 0.1}), 40, 10)
    assert [steps[5], steps[25], steps[35]] == pytest.approx([1.0, 0.1, 0.01])
    for loop in (LoopRecipe(schedule="tanh", warm_up=0), LoopRecipe(schedule="poly", warm_up=0, schedule_options={"decay_rate": 1.0})):
        falling = factors(loop, 40, 10)
        assert falling == sorted(falling, reverse=True)
        assert falling[-1] < 0.1


def test_slowing_down_changes_all_rates_to_come() -> None:
    optimiser = torch.optim.SGD([{"params": [torch.zeros(1, requires_grad=True)], "lr": lr} for lr in (1.0, 4.0)], lr=1.0)
    schedule = make_schedule(optimiser, LoopRecipe(schedule="constant", warm_up=0), 10, 1)
    slow_down(optimiser, schedule, 0.5)
    assert schedule.get_last_lr() == [0.5, 2.0]
    optimiser.step()
    schedule.step()
    assert [group["lr"] for group in optimiser.param_groups] == schedule.get_last_lr() == [0.5, 2.0]


@pytest.mark.parametrize(("keep", "kept"), [("best", 2), ("last", 4), ("auto", 4)])
def test_a_training_that_gets_no_better_ends_and_keeps_what_is_asked_for(
    work: Work, job_folder: JobFolder, events: Events, monkeypatch: pytest.MonkeyPatch, keep: str, kept: int
) -> None:
    maps = iter([0.1, 0.2, 0.4, 0.3, 0.4, 0.9, 0.9])
    score = HeldOut.score
    stems: list[torch.Tensor] = []

    def told(self: Any, net: RetrievalNetwork, *arguments: Any) -> Any:
        stems.append(net.backbone.state_dict()["conv_stem.weight"].clone())
        return replace(score(self, net, *arguments), map=next(maps))

    monkeypatch.setattr(HeldOut, "score", told)
    folder = job_folder({**SMALL, "loop.epochs": "9", "loop.patience": "2", "loop.keep": keep})
    assert work(folder) == 0
    bundle = read_bundle(folder / "bundle")
    assert torch.equal(bundle.network.backbone.state_dict()["conv_stem.weight"], stems[kept])
    assert not torch.equal(stems[2], stems[4])
    assert len(stems) == 5
    result = json.loads((folder / "result.json").read_text())
    assert result["metrics"]["heldout_map"] == 0.4
    assert any("best was epoch 2" in note and f"those of epoch {kept}" in note for note in result["notes"])
    assert any("epoch 4 of 9, the last" in event["message"] for event in events(folder))


def test_a_training_that_only_made_it_worse_is_not_kept(work: Work, job_folder: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mAPs are given: to what a few steps lead with so few pictures differs from processor to processor."""
    first = job_folder(SMALL)
    assert work(first) == 0
    start = {"kind": "bundle", "path": str(first / "bundle")}
    once = {**SMALL, "loop.epochs": "1"}
    kept, last = job_folder(once, init=start), job_folder({**once, "loop.keep": "last"}, init=start)
    measure, given = HeldOut.score, iter([0.8, 0.4, 0.8, 0.4])
    monkeypatch.setattr(HeldOut, "score", lambda *asked: replace(measure(*asked), map=next(given)))
    assert [work(kept), work(last)] == [0, 0]
    results = [json.loads((folder / "result.json").read_text()) for folder in (first, kept, last)]
    assert [result["metrics"]["heldout_map"] for result in results[1:]] == [0.8, 0.4]
    stems = [read_bundle(folder / "bundle").network.backbone.state_dict()["conv_stem.weight"] for folder in (first, kept, last)]
    assert torch.equal(stems[0], stems[1])
    assert not torch.equal(stems[0], stems[2])
    assert any("ranked worse" in note and "those of epoch 0" in note for note in results[1]["notes"])
    assert any("ranked worse" in note and "those of epoch" not in note for note in results[2]["notes"])


def test_without_held_out_classes_there_is_nothing_to_stop_by(work: Work, job_folder: JobFolder) -> None:
    folder = job_folder({**SMALL, "loop.patience": "1", "loop.keep": "best", "split.held_out": "0"})
    assert work(folder) == 0
    assert any("nothing to go by" in note for note in json.loads((folder / "result.json").read_text())["notes"])


@pytest.mark.parametrize("choice", [{"loop.precision": "bf16"}, {"loop.memory_format": "contiguous"}])
def test_precision_and_memory_format_are_as_asked_for(work: Work, job_folder: JobFolder, choice: dict[str, str]) -> None:
    (key, value), *_ = choice.items()
    folder, plain = job_folder({**SMALL, **choice}), job_folder(SMALL)
    assert [work(folder), work(plain)] == [0, 0]
    assert read_bundle(folder / "bundle").description.recipe[key.removeprefix("loop.")] == value
    if key == "loop.precision":
        stems = [read_bundle(f / "bundle").network.backbone.state_dict()["conv_stem.weight"] for f in (folder, plain)]
        assert not torch.equal(*stems)
        torch.testing.assert_close(*stems, atol=0.05, rtol=0.5)


def resolved(job_folder: JobFolder, work: Work, **overrides: str) -> ResolvedRecipe:
    folder = job_folder({f"loop.{name}": value for name, value in overrides.items()})
    assert work(folder) == 0
    return ResolvedRecipe.model_validate(read_bundle(folder / "bundle").description.recipe, strict=False)


def test_what_is_clearly_faster_is_taken_and_nothing_else(work: Work, job_folder: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_has_bf16", lambda _: True)
    recipe = resolved(job_folder, work).model_copy(update={"threads": 8})

    def seconds(recipe: ResolvedRecipe) -> float:
        return 1.0 - 0.1 * (recipe.memory_format == "contiguous") - 0.3 * (recipe.precision == "bf16") + (recipe.threads == 4)

    chosen, said = choose_by_measuring(recipe, seconds)
    assert (chosen.memory_format, chosen.precision, chosen.threads) == ("channels_last", "bf16", 8)
    assert "memory_format contiguous: 0.9 s a step against 1 s, not taken" in said
    fixed = resolved(job_folder, work, precision="fp32", memory_format="contiguous", threads="1")
    assert choose_by_measuring(fixed, seconds) == (fixed, "")


def test_measuring_changes_nothing_and_is_told_once(
    work: Work, job_folder: JobFolder, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, measured = job_folder(SMALL), job_folder(SMALL)
    assert work(plain) == 0
    monkeypatch.setattr(training_run, "FEWEST_STEPS", 1)
    monkeypatch.setitem(tuning._CLEARLY, "cpu", 0.0)
    steps = []
    step = Trainer._step

    def counted(self: Trainer, *arguments: Any) -> Any:
        steps.append(1)
        return step(self, *arguments)

    monkeypatch.setattr(Trainer, "_step", counted)
    assert work(measured) == 0
    assert len(steps) >= 10 + 3 * 4
    assert len([event for event in events(measured) if event["message"].startswith("measured: memory_format contiguous")]) == 1
    assert (plain / "bundle/model.safetensors").read_bytes() == (measured / "bundle/model.safetensors").read_bytes()


def test_short_trainings_are_not_measured_for(work: Work, job_folder: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_run, "choose_by_measuring", None)
    assert work(job_folder(SMALL)) == 0
