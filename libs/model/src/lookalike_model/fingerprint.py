"""The identity of an embedding space."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lookalike_images import Preprocessing
from lookalike_model.network import RetrievalNetwork, tensors_to
from lookalike_model.profile import Profile
from lookalike_model.projection import Projection
from lookalike_model.spec import NetworkSpec

PREFIX = "ls1:"


@dataclass(frozen=True, slots=True)
class Space:
    """The identity of a space, and how to get there; two are compatible when their fingerprints are equal.

    Attributes:
        fingerprint: `ls1:` and 64 hexadecimal digits.
        model: name in the registry.
        version: number in the registry, as text.
        profile: name in the bundle.
        dim: values a vector.
        metric: how vectors are compared.
    """

    fingerprint: str
    model: str
    version: str
    profile: str
    dim: int
    metric: Literal["cosine"] = "cosine"


def space_fingerprint(
    network: RetrievalNetwork,
    preprocessing: Preprocessing,
    decoder_revision: str | int,
    profile: Profile,
    projection: Projection | None = None,
) -> str:
    """Identity of the space that a network and a profile make: `ls1:` + SHA-256 over canonical JSON.

    It covers all that decides a vector: architecture, each tensor on the way to the tap, mean and deviation,
    preprocessing and decoder, tap, projection, views, normalisation. A network is the only member of its space, with
    weight 1. What lies off the way to the tap, where the tensors lie and how they were saved do not count.
    """
    member = _member_identity(1.0, network, preprocessing, decoder_revision, profile, projection)
    return _hashed({"members": [member], "views": profile.views, "normalise": profile.normalise, "metric": "cosine"})


@dataclass(frozen=True, slots=True)
class SpaceMember:
    """A network and a profile that take part in a space with others; the weights of all add up to 1."""

    weight: float
    network: RetrievalNetwork
    preprocessing: Preprocessing
    profile: Profile
    projection: Projection | None


def ensemble_fingerprint(members: Sequence[SpaceMember], decoder_revision: str | int) -> str:
    """Identity of the space of several members, whose order counts; views and normalisation are those of each."""
    identities = [
        {
            **_member_identity(m.weight, m.network, m.preprocessing, decoder_revision, m.profile, m.projection),
            "views": m.profile.views,
            "normalise": m.profile.normalise,
        }
        for m in members
    ]
    return _hashed({"members": identities, "views": ("identity",), "normalise": True, "metric": "cosine"})


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys, no spaces and shortest numbers: equal values give equal bytes."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def _hashed(space: dict[str, Any]) -> str:
    return PREFIX + hashlib.sha256(canonical_json(space)).hexdigest()


def _member_identity(
    weight: float,
    network: RetrievalNetwork,
    preprocessing: Preprocessing,
    decoder_revision: str | int,
    profile: Profile,
    projection: Projection | None,
) -> dict[str, Any]:
    return {
        "weight": weight,
        "network": _architecture(network.spec, profile),
        "statistics": network.statistics.model_dump(mode="json"),
        "tensors": [_tensor_identity(name, t) for name, t in sorted(tensors_to(network, profile.tap).items())],
        "preprocessing": preprocessing.to_json(),
        "decoder_revision": decoder_revision,
        "tap": profile.tap,
        "projection": None
        if projection is None
        else [_tensor_identity("mean", projection.mean), _tensor_identity("components", projection.components)],
    }


def _architecture(spec: NetworkSpec, profile: Profile) -> dict[str, Any]:
    on_the_way = spec if profile.tap == "embedding" else spec.model_copy(update={"embedding": None})
    return on_the_way.model_dump(mode="json")


def _tensor_identity(name: str, tensor: Tensor) -> dict[str, Any]:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return {
        "name": name,
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "sha256": hashlib.sha256(flat.view(torch.uint8).numpy().tobytes()).hexdigest(),
    }
