"""From a published version to a model that is proven to compute here what it computed where it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from lookalike_images import Preprocessing
from lookalike_model.bundle import Bundle, read_bundle
from lookalike_model.embedding_model import EmbeddingModel, Precision
from lookalike_model.fingerprint import Space
from lookalike_model.golden import Proof, prove
from lookalike_model.registry import RegistryError, RegistryReader, Version
from lookalike_runtime.errors import FailedPrecondition, InvalidArgument

PRECISION: Precision = "fp32"


class NotProven(FailedPrecondition):
    """A version that must not be served. `golden_error` is its largest 1 − cosine, None if it never came to the proof."""

    def __init__(self, message: str, golden_error: float | None = None) -> None:
        values = {} if golden_error is None else {"golden_error": f"{golden_error:.3g}"}
        super().__init__("MODEL_NOT_PROVEN", message, metadata=values)
        self.golden_error = golden_error


@dataclass(frozen=True, slots=True, eq=False)
class ServedProfile:
    """A profile of a proven version, with the name of the version: `models/M/versions/V`."""

    name: str
    model: EmbeddingModel
    space: Space

    @property
    def preprocessing(self) -> Preprocessing:
        """How pictures become what the network takes."""
        return self.model.preprocessing


@dataclass(frozen=True, slots=True)
class ProvenModel:
    """The profiles of a version, which share its network, and its largest 1 − cosine on the golden pictures."""

    profiles: Mapping[str, ServedProfile]
    golden_error: float


def choose_device(setting: str) -> str:
    """Return the torch device that `setting` means; `auto` is the first GPU, or the CPU where there is none.

    Raises InvalidArgument if this machine has no such device.
    """
    if setting == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=setting)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidArgument("INVALID_SETTING", f"device {setting!r} cannot be used ({reason}): choose auto, cpu or cuda:N") from None
    return setting


def load_and_prove(reader: RegistryReader, model: str, number: str, version: Version, cache: Path, device: str) -> ProvenModel:
    """Read a version's bundle, checksums compared, and embed its golden pictures.

    Raises NotProven if it must not be served, and whatever the file system raises if the registry cannot be reached.
    """
    name = f"models/{model}/versions/{number}"
    try:
        folder = reader.fetch(version, cache)
    except RegistryError as error:
        raise NotProven(f"{name} cannot be served: {error}") from error
    try:
        bundle = read_bundle(folder)
        _check_published(bundle, version)
        models = {profile: EmbeddingModel.load(bundle, profile, device, PRECISION) for profile in bundle.profiles}
        proofs = {profile: prove(loaded, bundle) for profile, loaded in models.items()}
    except Exception as error:  # torch and timm raise many types on what they cannot take
        raise NotProven(f"{name} cannot be served: {error}") from error
    worst = max(proofs, key=lambda profile: proofs[profile].worst)
    if not all(proof.ok for proof in proofs.values()):
        raise _missed(name, worst, proofs[worst])
    profiles = {profile: ServedProfile(name, loaded, loaded.space(model, number)) for profile, loaded in models.items()}
    return ProvenModel(profiles, proofs[worst].worst)


def _check_published(bundle: Bundle, version: Version) -> None:
    in_bundle = {name: profile.fingerprint for name, profile in bundle.profiles.items()}
    published = {name: profile.fingerprint for name, profile in version.profiles.items()}
    if in_bundle != published or bundle.default_profile != version.default_profile:
        raise ValueError("its bundle has other profiles or spaces than the registry says")


def _missed(name: str, profile: str, proof: Proof) -> NotProven:
    message = (
        f"{name} is not what was trained, or this machine computes it differently: profile {profile!r} misses its golden vector of "
        f"{proof.picture} by {proof.worst:.3g} (1 − cosine; at most {proof.tolerance:.0e}). Publish the model again from the trainer"
    )
    return NotProven(message, proof.worst)
