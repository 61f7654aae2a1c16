"""The identity of a space: what changes it, what does not."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lookalike_images import Preprocessing
from lookalike_model.bundle import Bundle, read_bundle
from lookalike_model.bundle_writer import BundleContent, write_bundle
from lookalike_model.fingerprint import canonical_json, space_fingerprint
from lookalike_model.network import RetrievalNetwork
from lookalike_model.profile import Profile
from lookalike_model.spec import ChannelStatistics, EmbeddingSpec

Build = Callable[..., RetrievalNetwork]
PIXELS = Preprocessing(size=48)
HEAD = EmbeddingSpec(size=8)


def fingerprint(network: RetrievalNetwork, profile: Profile | None = None) -> str:
    return space_fingerprint(network, PIXELS, 1, profile or Profile())


def test_a_fingerprint_has_its_form(tiny_network: Build) -> None:
    prefix, digits = fingerprint(tiny_network()).split(":")
    assert prefix == "ls1"
    assert len(digits) == 64


def test_saving_again_keeps_it(tmp_path: Path, bundle: Bundle, content: BundleContent) -> None:
    again = dataclasses.replace(content, network=bundle.network)
    written = write_bundle(tmp_path / "again", again)
    assert {n: p.fingerprint for n, p in written.profiles.items()} == {n: p.fingerprint for n, p in bundle.profiles.items()}
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (bundle.folder / "model.safetensors").read_bytes()


def test_each_tensor_on_the_way_changes_it(tiny_network: Build) -> None:
    network = tiny_network(HEAD)
    profile = Profile(tap="embedding")
    before = fingerprint(network, profile)
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        flat = tensor.view(-1)
        old = flat[-1].clone()
        flat[-1] = old + 1e-3
        assert fingerprint(network, profile) != before, name
        flat[-1] = old
    assert fingerprint(network, profile) == before


def test_what_lies_off_the_way_does_not_change_it(tiny_network: Build) -> None:
    network = tiny_network(HEAD)
    before = fingerprint(network)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.startswith("embedding.") or name.endswith("num_batches_tracked"):
                tensor.add_(1)
    assert fingerprint(network) == before
    assert fingerprint(tiny_network()) == before  # the same backbone without the head


@pytest.mark.parametrize(
    "change",
    [
        {"size": 64},
        {"resize": "pad"},
        {"crop_pct": 0.9},
        {"filter": "bilinear"},
        {"background": (0, 0, 0)},
    ],
)
def test_each_part_of_the_preprocessing_changes_it(tiny_network: Build, change: dict[str, object]) -> None:
    network = tiny_network()
    changed = Preprocessing.from_json({**PIXELS.to_json(), **change})
    assert space_fingerprint(network, changed, 1, Profile()) != fingerprint(network)


def test_decoder_tap_normalisation_mean_deviation_and_activation_change_it(tiny_network: Build) -> None:
    network = tiny_network(HEAD)
    seen = {fingerprint(network)}
    seen.add(space_fingerprint(network, PIXELS, 2, Profile()))
    seen.add(fingerprint(network, Profile(tap="embedding")))
    seen.add(fingerprint(network, Profile(normalise=False)))
    for statistics in (
        ChannelStatistics(mean=(0.486, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        ChannelStatistics(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.226)),
    ):
        network.statistics = statistics
        seen.add(fingerprint(network))
    for activation in ("relu", "gelu"):
        head = EmbeddingSpec.model_validate({"size": 8, "activation": activation})
        seen.add(fingerprint(tiny_network(head), Profile(tap="embedding")))
    assert len(seen) == 8


def test_memory_format_and_reading_back_do_not_change_it(bundle: Bundle) -> None:
    network = read_bundle(bundle.folder).network
    before = fingerprint(network)
    assert fingerprint(network.to(memory_format=torch.channels_last)) == before


def test_canonical_json_ignores_the_order_of_keys() -> None:
    assert canonical_json({"b": 1.0, "a": ["ü"]}) == '{"a":["ü"],"b":1.0}'.encode()
