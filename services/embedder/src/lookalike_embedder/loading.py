"""From a published version to a model that is proven to compute here what it computed where it was made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lookalike_embedder.fastest import Chosen, FastestNumerics, Proofs
from lookalike_embedder.priority import stand_back
from lookalike_embedder.trial import ONE_THREAD, Threads
from lookalike_model.bundle import Bundle
from lookalike_model.embedding_model import PictureModel
from lookalike_model.ensemble import Ensemble, read_model
from lookalike_model.ensemble_model import for_inference, load_model
from lookalike_model.fingerprint import Space
from lookalike_model.golden import prove
from lookalike_model.inputs import PictureInputs
from lookalike_model.numerics import Numerics
from lookalike_model.registry import RegistryError, RegistryReader, Version
from lookalike_runtime.errors import FailedPrecondition, InvalidArgument


class NotProven(FailedPrecondition):
    """A version that must not be served. `golden_error` is its largest 1 − cosine, None if it never came to the proof."""

    def __init__(self, message: str, golden_error: float | None = None) -> None:
        values = {} if golden_error is None else {"golden_error": f"{golden_error:.3g}"}
        super().__init__("MODEL_NOT_PROVEN", message, metadata=values)
        self.golden_error = golden_error


@dataclass(frozen=True, slots=True, eq=False)
class ServedProfile:
    """A profile of a proven version, with the name of the version: `models/M/versions/V`.

    `model` is on the first device; `others` are the same on the further ones, in their order. `threads` are those of each batch.
    """

    name: str
    model: PictureModel
    space: Space
    others: tuple[PictureModel, ...] = ()
    threads: Threads = ONE_THREAD

    @property
    def inputs(self) -> PictureInputs:
        """How pictures become what the network takes."""
        return self.model.inputs

    def on(self, device: int) -> PictureModel:
        """The model on a device, by its number from 0."""
        return self.others[device - 1] if device else self.model


@dataclass(frozen=True, slots=True)
class ProvenModel:
    """The profiles of a version, which share its networks.

    Attributes:
        golden_error: largest 1 − cosine on the golden pictures, over profiles and devices.
        numerics: how it computes.
        threads: how many it takes.
        memory_bytes: of its tensors, on each device.
    """

    profiles: Mapping[str, ServedProfile]
    golden_error: float
    numerics: Numerics
    threads: Threads
    memory_bytes: int


def choose_devices(setting: str) -> tuple[str, ...]:
    """Return the torch devices that `setting` means; `auto` is every GPU, or the CPU where there is none.

    Raises InvalidArgument if this machine has no such device.
    """
    if setting == "auto":
        return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count())) if torch.cuda.is_available() else ("cpu",)
    devices = tuple(setting.split(","))
    if len(set(devices)) != len(devices):
        raise InvalidArgument("INVALID_SETTING", f"device {setting!r} names one twice")
    for device in devices:
        try:
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            message = f"device {device!r} cannot be used ({reason}): choose auto, cpu, cuda:N or several such as cuda:0,cuda:1"
            raise InvalidArgument("INVALID_SETTING", message) from None
    return devices


class BundleLoader:
    """Loads versions and proves them. Its calls block, and come one at a time."""

    def __init__(self, reader: RegistryReader, cache: Path, devices: Sequence[str], fastest: FastestNumerics) -> None:
        """`cache` is where bundles of a remote registry are kept; a version is loaded on each of `devices`."""
        self._reader = reader
        self._cache = cache
        self._devices = tuple(devices)
        self._fastest = fastest

    def size(self, model: str, number: str, version: Version) -> int:
        """Bytes of a version's tensors, as its files say.

        Raises NotProven if its files are not what was published, and whatever the file system raises if the registry cannot be reached.
        """
        folder = self._fetch(f"models/{model}/versions/{number}", version)
        return sum(file.stat().st_size for file in folder.rglob("*.safetensors") if file.parent.name != "golden")

    def load(self, model: str, number: str, version: Version) -> ProvenModel:
        """Read a version's bundle, checksums compared, choose how it computes, and embed its golden pictures.

        Raises NotProven if it must not be served, and whatever the file system raises if the registry cannot be reached.
        """
        stand_back()
        torch.set_num_threads(1)  # of this thread: more would stay, and count against those of the device
        name = f"models/{model}/versions/{number}"
        folder = self._fetch(name, version)
        try:
            bundle = read_model(folder)
            _check_published(bundle, version)
            replicas = self._on_devices(bundle)
            chosen = self._choose(bundle, replicas)
        except Exception as error:  # torch and timm raise many types on what they cannot take
            raise NotProven(f"{name} cannot be served: {error}") from error
        if not chosen.ok:
            raise _missed(name, chosen)
        for replica in replicas:
            for each in replica.values():
                each.settle(set(chosen.threads))
        first, *others = replicas
        profiles = {
            profile: ServedProfile(name, loaded, loaded.space(model, number), tuple(other[profile] for other in others), chosen.threads)
            for profile, loaded in first.items()
        }
        worst = max(proof.worst for proof in chosen.proofs.values())
        return ProvenModel(profiles, worst, chosen.numerics, chosen.threads, _memory_bytes(first.values()))

    def _fetch(self, name: str, version: Version) -> Path:
        try:
            return self._reader.fetch(version, self._cache)
        except RegistryError as error:
            raise NotProven(f"{name} cannot be served: {error}") from error

    def _on_devices(self, bundle: Bundle | Ensemble) -> list[dict[str, PictureModel]]:
        """For each device the profiles, which share networks of their own."""
        copies = [for_inference(bundle) for _ in self._devices]
        return [
            {profile: load_model(copy, profile, device) for profile in bundle.profiles}
            for copy, device in zip(copies, self._devices, strict=True)
        ]

    def _choose(self, bundle: Bundle | Ensemble, replicas: list[dict[str, PictureModel]]) -> Chosen:
        """Choose on the first device; the others compute the same way, and each is proven."""
        first, *others = replicas
        default = first[bundle.default_profile]
        chosen = self._fastest.choose([default, *(m for m in first.values() if m is not default)], lambda: _prove(first, bundle))
        for other in others:
            for model in other.values():
                model.use(chosen.numerics)
            proofs = _prove(other, bundle)
            chosen = chosen._replace(proofs={p: max(proof, proofs[p], key=lambda each: each.worst) for p, proof in chosen.proofs.items()})
        return chosen


def _prove(models: Mapping[str, PictureModel], bundle: Bundle | Ensemble) -> Proofs:
    return {profile: prove(model, bundle) for profile, model in models.items()}


def _memory_bytes(models: Iterable[PictureModel]) -> int:
    return sum({id(network): network.nbytes for model in models for network in model.networks}.values())


def _check_published(bundle: Bundle | Ensemble, version: Version) -> None:
    in_bundle = {name: profile.fingerprint for name, profile in bundle.profiles.items()}
    published = {name: profile.fingerprint for name, profile in version.profiles.items()}
    if in_bundle != published or bundle.default_profile != version.default_profile:
        raise ValueError("its bundle has other profiles or spaces than the registry says")


def _missed(name: str, chosen: Chosen) -> NotProven:
    profile = max(chosen.proofs, key=lambda each: chosen.proofs[each].worst)
    proof, precision = chosen.proofs[profile], chosen.numerics.precision
    remedy = "Publish the model again from the trainer" if precision == "fp32" else "Start the server with --precision fp32 or auto"
    message = (
        f"{name} is not what was trained, or this machine computes it differently: profile {profile!r} misses its golden vector of "
        f"{proof.picture} by {proof.worst:.3g} in {precision} (1 − cosine; at most {proof.tolerance:.0e}). {remedy}"
    )
    return NotProven(message, proof.worst)
