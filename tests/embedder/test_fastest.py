"""How a model computes: measured, proven, remembered."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lookalike_embedder import fastest
from lookalike_embedder.fastest import FastestNumerics, Measuring, Proofs
from lookalike_embedder.loading import BundleLoader, NotProven, choose_devices
from lookalike_embedder.trial import Threads, Trial, seconds_a_picture
from lookalike_images import Preprocessing
from lookalike_model.bundle import Bundle, read_bundle
from lookalike_model.bundle_writer import BundleContent, write_bundle
from lookalike_model.compiled import CompiledNetwork
from lookalike_model.embedding_model import EmbeddingModel
from lookalike_model.ensemble_writer import EnsembleContent, MemberSource, write_ensemble
from lookalike_model.golden import Proof, golden_pictures
from lookalike_model.network import RetrievalNetwork
from lookalike_model.numerics import CompileError, Numerics
from lookalike_model.profile import Profile, ProjectionSpec
from lookalike_model.projection import Projection
from lookalike_model.registry import PublishedProfile, RegistryReader, Version, publish_bundle
from lookalike_model.spec import ChannelStatistics, NetworkSpec


def content(seed: int = 0, **parts: Any) -> BundleContent:
    torch.manual_seed(seed)
    network = RetrievalNetwork(NetworkSpec(architecture="test_efficientnet"), ChannelStatistics(mean=(0.5,) * 3, std=(0.5,) * 3))
    network.train()
    with torch.no_grad():
        for _ in range(10):
            network(network.to_input(torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8)))
    return BundleContent("tiny", network.eval(), Preprocessing(size=32), **parts)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "tiny", content())


@pytest.fixture(scope="module")
def touchy(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> Bundle:
    """A bundle that is right in fp32 and not in bf16: its projection leaves only what tells pictures from their mean, made small."""
    plain = content()
    wide = torch.from_numpy(bundle.golden.vectors["plain"])
    dim = wide.shape[1]
    # What is left of the first picture is a thousandth of its vector.
    spread = Projection(wide[0] - 1e-3 * wide[1], torch.eye(dim))
    profiles = {"plain": Profile(projection=ProjectionSpec(name="spread", dim=dim))}
    made = BundleContent("touchy", plain.network, plain.preprocessing, profiles, projections={"spread": spread})
    return write_bundle(tmp_path_factory.mktemp("bundles") / "touchy", made)


def measuring(precision: Any = "auto", threads: int | None = 1, seconds: float = 0.2) -> Measuring:
    return Measuring(precision, threads, 4, 8, seconds)


def at_once(work: Callable[[], float]) -> float:
    return work()


def accepted(_: object = None) -> Proofs:
    return {"plain": Proof(0.0, "all", 1e-5)}


@pytest.fixture
def paced(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[Numerics, float]], list[Numerics]]:
    """Let each way take the seconds that are told, and note what is measured; other ways take 1 s."""

    def pace(told: dict[Numerics, float]) -> list[Numerics]:
        seen: list[Numerics] = []

        def seconds(model: EmbeddingModel, _trial: Trial, _seconds: float) -> float:
            seen.append(model.numerics)
            return told.get(model.numerics, 1.0)

        monkeypatch.setattr(fastest, "seconds_a_picture", seconds)
        return seen

    return pace


FP32, BF16, COMPILED = Numerics("fp32", True), Numerics("bf16", True), Numerics(compiled=True)


def test_fastest_way_is_chosen_remembered_and_not_measured_again(bundle: Bundle, tmp_path: Path, paced: Any) -> None:
    seen = paced({Numerics("fp32", False): 0.2})
    file = tmp_path / "cache" / "numerics.json"
    model = EmbeddingModel.load(bundle)
    chosen = FastestNumerics(measuring(), file, at_once).choose([model], accepted)
    assert chosen.numerics == model.numerics == Numerics("fp32", False)
    assert len(seen) == 6
    (key, entry), *rest = json.loads(file.read_text()).items()
    assert not rest
    assert bundle.profiles["plain"].fingerprint[:20] in key
    assert entry["pictures_per_second"] == pytest.approx(1 / 0.2)
    assert FastestNumerics(measuring(), file, at_once).choose([EmbeddingModel.load(bundle)], accepted).numerics == chosen.numerics
    assert len(seen) == 6
    # Another wish is another question.
    assert FastestNumerics(measuring("fp32"), file, at_once).choose([EmbeddingModel.load(bundle)], accepted).ok
    assert len(seen) == 9


def test_precision_that_fails_the_proof_is_never_chosen_however_fast(bundle: Bundle, tmp_path: Path, paced: Any) -> None:
    paced({BF16: 0.01, Numerics("bf16", False): 0.02, FP32: 0.5})
    model = EmbeddingModel.load(bundle)

    def prove() -> Proofs:
        return {"plain": Proof(0.002 if model.precision == "bf16" else 1e-7, "one", 1e-3)}

    assert FastestNumerics(measuring(), tmp_path / "n.json", at_once).choose([model], prove).numerics == FP32
    asked = FastestNumerics(measuring("bf16"), tmp_path / "n.json", at_once).choose([model], prove)
    assert not asked.ok
    assert asked.numerics.precision == "bf16"


def test_remembered_way_that_fails_the_proof_now_is_measured_anew(bundle: Bundle, tmp_path: Path, paced: Any) -> None:
    seen = paced({BF16: 0.1})
    file = tmp_path / "n.json"
    model = EmbeddingModel.load(bundle)
    assert FastestNumerics(measuring(), file, at_once).choose([model], accepted).numerics == BF16
    count = len(seen)
    again = FastestNumerics(measuring(), file, at_once).choose(
        [model], lambda: {"plain": Proof(1.0 if model.precision == "bf16" else 0.0, "one", 1e-3)}
    )
    assert again.numerics.precision == "fp32"
    assert len(seen) > count


def test_bf16_must_be_clearly_faster(bundle: Bundle, tmp_path: Path, paced: Any) -> None:
    paced({FP32: 0.5, BF16: 0.48})
    assert FastestNumerics(measuring(), tmp_path / "n.json", at_once).choose([EmbeddingModel.load(bundle)], accepted).numerics == FP32


def test_compiled_network_is_chosen_where_it_is_faster_and_proven(bundle: Bundle, tmp_path: Path, paced: Any) -> None:
    seen = paced({COMPILED: 0.1, FP32: 0.5})
    file = tmp_path / "n.json"
    model = EmbeddingModel.load(bundle)
    chosen = FastestNumerics(measuring("fp32"), file, at_once).choose([model], accepted)
    assert chosen.numerics == model.numerics == COMPILED
    count = len(seen)
    assert FastestNumerics(measuring("fp32"), file, at_once).choose([EmbeddingModel.load(bundle)], accepted).numerics == COMPILED
    assert len(seen) == count, "it is remembered"

    def prove() -> Proofs:
        return {"plain": Proof(0.1 if model.numerics.compiled else 0.0, "one", 1e-5)}

    assert FastestNumerics(measuring("fp32"), tmp_path / "m.json", at_once).choose([model], prove).numerics == FP32


def test_network_that_cannot_be_compiled_is_run_by_torch(
    bundle: Bundle, tmp_path: Path, paced: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    paced({COMPILED: 0.1, FP32: 0.5})
    file = tmp_path / "n.json"
    assert FastestNumerics(measuring("fp32"), file, at_once).choose([EmbeddingModel.load(bundle)], accepted).numerics == COMPILED
    monkeypatch.setattr(CompiledNetwork, "take", Mock(side_effect=CompileError("no conversion rule")))
    model = EmbeddingModel.load(bundle)
    assert FastestNumerics(measuring("fp32"), file, at_once).choose([model], accepted).numerics == FP32
    assert model.numerics == FP32


def test_batches_side_by_side_must_be_clearly_faster_than_one_on_all_cores(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paces = {1: 0.1, 2: 0.098, 4: 0.105}

    def seconds(model: EmbeddingModel, trial: Trial, _seconds: float) -> float:
        return paces[trial.threads] if model.numerics.compiled else 1.0

    monkeypatch.setattr(fastest, "seconds_a_picture", seconds)
    monkeypatch.setattr(fastest, "seconds_of_one", lambda *_: 0.01)

    def chosen(name: str) -> int:
        choosing = FastestNumerics(measuring("fp32", threads=None), tmp_path / name, at_once)
        return choosing.choose([EmbeddingModel.load(bundle)], accepted).threads.batch

    assert chosen("near") == 4
    paces[2] = 0.09
    assert chosen("far") == 2


def test_measuring_ends_with_its_time_and_none_takes_the_plain_way(bundle: Bundle, tmp_path: Path, paced: Any) -> None:
    seen = paced({})
    assert (
        FastestNumerics(measuring(seconds=1e-9), tmp_path / "n.json", at_once).choose([EmbeddingModel.load(bundle)], accepted).numerics
        == FP32
    )
    assert seen == [FP32]
    plain = FastestNumerics(measuring(seconds=0), tmp_path / "m.json", at_once).choose([EmbeddingModel.load(bundle)], accepted)
    assert plain.numerics == FP32
    assert not (tmp_path / "m.json").exists()


def test_threads_are_tried_where_they_are_not_told_and_only_on_the_cpu() -> None:
    assert {way.threads for way in measuring(threads=None).candidates(torch.device("cpu"))} == {4, 2, 1}
    assert {way.threads for way in measuring(threads=3).candidates(torch.device("cpu"))} == {3}
    on_gpu = measuring(threads=None).candidates(torch.device("cuda", 0))
    assert {(way.threads, way.numerics.compiled) for way in on_gpu} == {(1, False)}


def test_as_many_batches_run_side_by_side_as_there_are_cores_for_and_a_single_picture_has_threads_of_its_own(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Trial] = []

    def seconds(_model: object, trial: Trial, _seconds: float) -> float:
        tried.append(trial)
        return 0.1 if trial == (2, 2, 8) else 1.0

    monkeypatch.setattr(fastest, "seconds_a_picture", seconds)
    monkeypatch.setattr(fastest, "seconds_of_one", lambda _model, count, _seconds: 0.01 if count == 4 else 0.02)
    file = tmp_path / "n.json"
    chosen = FastestNumerics(measuring("fp32", threads=None), file, at_once).choose([EmbeddingModel.load(bundle)], accepted)
    assert chosen.threads == Threads(batch=2, single=4)
    assert {trial[:2] for trial in tried} == {(1, 4), (2, 2), (4, 1)}
    count = len(tried)
    again = FastestNumerics(measuring("fp32", threads=None), file, at_once).choose([EmbeddingModel.load(bundle)], accepted)
    assert (again.threads, len(tried)) == (chosen.threads, count)


@pytest.mark.parametrize("side_by_side", [1, 3])
def test_a_trial_takes_each_picture_s_share_of_a_round(bundle: Bundle, side_by_side: int) -> None:
    model = EmbeddingModel.load(bundle)

    def slowly(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        time.sleep(0.02)
        return model.embed(pixels)

    embed = Mock(side_effect=slowly)
    timed = Mock(inputs=model.inputs, embed=embed)
    seconds = seconds_a_picture(timed, Trial(1, side_by_side, 4), 0.1)
    assert embed.call_count >= 2 * side_by_side
    assert {len(call.args[0]) for call in embed.call_args_list} == {4}
    assert seconds >= 0.02 / (4 * side_by_side)


def test_a_trial_leaves_out_the_first_time_which_may_compile(bundle: Bundle) -> None:
    model = EmbeddingModel.load(bundle)
    pauses = iter([0.5])
    timed = Mock(inputs=model.inputs, embed=Mock(side_effect=lambda _: time.sleep(next(pauses, 0.001))))
    assert seconds_a_picture(timed, Trial(1, 1, 4), 0.0) < 0.1
    assert timed.embed.call_count == 2


@pytest.mark.parametrize("text", ["", "[]", '{"key": {"precision": "int4"}}'])
def test_broken_memory_is_measured_over(bundle: Bundle, tmp_path: Path, text: str) -> None:
    (tmp_path / "n.json").write_text(text)
    assert FastestNumerics(measuring("fp32"), tmp_path / "n.json", at_once).choose([EmbeddingModel.load(bundle)], accepted).ok
    assert json.loads((tmp_path / "n.json").read_text())


def test_measured_in_earnest_every_way_gives_one_vector(bundle: Bundle, tmp_path: Path) -> None:
    model = EmbeddingModel.load(bundle)
    pictures = [picture.data for picture in golden_pictures()]
    expected = model.embed_pictures(pictures)
    for numerics in {way.numerics for way in measuring().candidates(torch.device("cpu"))}:
        model.use(numerics)
        distance = 1 - (model.embed_pictures(pictures).astype(np.float64) * expected).sum(1).min()
        assert distance <= (1e-3 if numerics.precision == "bf16" else 1e-5), numerics
    assert FastestNumerics(measuring(), tmp_path / "n.json", at_once).choose([model], accepted).ok


def published(bundle: Any, url: Path, uid: str = "tiny-1") -> Version:
    profiles = {name: PublishedProfile(fingerprint=p.fingerprint, dim=p.dim) for name, p in bundle.profiles.items()}
    return Version(
        path=f"bundles/{uid}",
        manifest_sha256=publish_bundle(bundle.folder, str(url), uid),
        create_time="2026-01-01T00:00:00Z",
        default_profile=bundle.default_profile,
        profiles=profiles,
    )


def loader(url: Path, precision: str = "fp32", devices: tuple[str, ...] = ("cpu",), seconds: float = 0.2) -> BundleLoader:
    fastest_numerics = FastestNumerics(measuring(precision, seconds=seconds), url / "numerics.json", at_once)
    return BundleLoader(RegistryReader(str(url)), url / "cache", devices, fastest_numerics)


def test_wish_for_a_precision_that_fails_is_refused_and_says_by_how_much(touchy: Bundle, tmp_path: Path) -> None:
    version = published(touchy, tmp_path)
    with pytest.raises(NotProven, match=r"in bf16 .*at most 1e-03.*--precision fp32") as raised:
        loader(tmp_path, "bf16").load("tiny", "1", version)
    assert raised.value.golden_error is not None
    assert raised.value.golden_error > 1e-3
    assert loader(tmp_path, "auto").load("tiny", "1", version).numerics.precision == "fp32"


def test_memory_is_that_of_the_tensors_and_known_before_loading(bundle: Bundle, tmp_path: Path) -> None:
    version = published(bundle, tmp_path)
    tensors = sum(tensor.nbytes for tensor in read_bundle(bundle.folder).network.state_dict().values())
    # Without measuring torch runs it.
    proven = loader(tmp_path, seconds=0).load("tiny", "1", version)
    served = sum(tensor.nbytes for network in proven.profiles["plain"].model.networks for tensor in network.state_dict().values())
    assert proven.memory_bytes == served
    # Folded batch norms leave a bias of four values.
    assert 0.8 * tensors < served < tensors <= loader(tmp_path).size("tiny", "1", version) <= 1.1 * tensors
    halved = loader(tmp_path, "bf16", seconds=0).load("tiny", "1", version)
    assert halved.memory_bytes < 0.7 * served
    model = halved.profiles["plain"].model
    assert all(tensor.dtype is not torch.float32 for name, tensor in model.networks[0].state_dict().items() if "conv" in name)


def test_ensemble_is_loaded_on_each_device_with_networks_of_its_own(bundle: Bundle, tmp_path: Path) -> None:
    other = write_bundle(tmp_path / "other", content(5))
    sources = [MemberSource(each.folder, f"models/{index}/versions/1") for index, each in enumerate((bundle, other))]
    ensemble = write_ensemble(tmp_path / "ensemble", EnsembleContent("both", sources))
    proven = loader(tmp_path, devices=("cpu", "cpu")).load("both", "1", published(ensemble, tmp_path, "both-1"))
    profile = proven.profiles["plain"]
    first, second = profile.on(0), profile.on(1)
    assert not {id(network) for network in first.networks} & {id(network) for network in second.networks}
    pictures = [picture.data for picture in golden_pictures()]
    assert (1 - (first.embed_pictures(pictures) * second.embed_pictures(pictures)).sum(1)).max() <= 1e-6


def test_devices_are_named_once_and_there() -> None:
    assert choose_devices("cpu") == ("cpu",)
    with pytest.raises(Exception, match="names one twice"):
        choose_devices("cuda:0,cuda:0")
    if not torch.cuda.is_available():
        assert choose_devices("auto") == ("cpu",)
        with pytest.raises(Exception, match="cannot be used"):
            choose_devices("cuda:7")
