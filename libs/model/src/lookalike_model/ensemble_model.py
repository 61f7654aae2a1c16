"""Several models that embed the same decoded pictures into one space."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import normalize

from lookalike_model.embedding_model import EmbeddingModel, ModelLoadError, PictureModel
from lookalike_model.ensemble import Ensemble
from lookalike_model.folding import folded
from lookalike_model.inputs import PictureInputs
from lookalike_model.network import RetrievalNetwork
from lookalike_model.numerics import Numerics, Precision

if TYPE_CHECKING:
    from torch import Tensor

    from lookalike_model.bundle import Bundle


class EnsembleModel(PictureModel):
    """Members whose unit vectors stand side by side, each times the root of its weight.

    So the cosine of two of its vectors is the weighted mean of the members' cosines.

    Args:
        members: all on one device.
        weights: of the members, adding up to 1.
        profile_name: what the profile is called in the ensemble.
        fingerprint: of the space, as the ensemble says.
    """

    def __init__(self, members: Sequence[EmbeddingModel], weights: Sequence[float], profile_name: str, fingerprint: str) -> None:
        specs = tuple(dict.fromkeys(spec for member in members for spec in member.inputs.specs))
        dim = sum(member.dim for member in members)
        super().__init__(PictureInputs(specs), dim, members[0].device, profile_name, members[0].numerics)
        self._members = tuple(members)
        self._roots = [weight**0.5 for weight in weights]
        self._parts_of = [[specs.index(spec) for spec in member.inputs.specs] for member in members]
        self._fingerprint = fingerprint

    @classmethod
    def load(cls, ensemble: Ensemble, device: str | torch.device = "cpu", precision: Precision = "fp32") -> EnsembleModel:
        """An ensemble with its profile.

        Raises:
            ModelLoadError: no such device, or pictures were decoded differently when a member was made.
        """
        described = ensemble.description
        members = [
            EmbeddingModel.load(bundle, member.profile, device, precision)
            for bundle, member in zip(ensemble.bundles, described.members, strict=True)
        ]
        entry = described.profiles[described.default_profile]
        return cls(members, [member.weight for member in described.members], described.default_profile, entry.fingerprint)

    @property
    def fingerprint(self) -> str:
        """Of the space, as the ensemble says."""
        return self._fingerprint

    @property
    def networks(self) -> tuple[RetrievalNetwork, ...]:
        """Its members' networks in order."""
        return tuple(network for member in self._members for network in member.networks)

    @property
    def architecture(self) -> str:
        """Its members' names in timm."""
        return "+".join(member.architecture for member in self._members)

    def use(self, numerics: Numerics) -> None:
        """Compute otherwise from now on."""
        self.numerics = numerics
        for member in self._members:
            member.use(numerics)

    def vectors(self, parts: Sequence[Tensor]) -> Tensor:
        """For each of `inputs` uint8 [n, s, s, 3] on the device → float32 [n, dim]."""
        each = [member.vectors([parts[i] for i in own]) for member, own in zip(self._members, self._parts_of, strict=True)]
        return normalize(torch.cat([root * normalize(v, dim=1) for root, v in zip(self._roots, each, strict=True)], dim=1), dim=1)


def load_model(model: Bundle | Ensemble, profile: str | None = None, device: str | torch.device = "cpu") -> PictureModel:
    """A bundle or an ensemble with one of its profiles, in fp32.

    Raises:
        ModelLoadError: no such profile or device, or pictures were decoded differently when it was made.
    """
    if not isinstance(model, Ensemble):
        return EmbeddingModel.load(model, profile, device)
    if profile not in (None, *model.profiles):
        raise ModelLoadError(f"the ensemble has no profile `{profile}`; it has: {', '.join(model.profiles)}")
    return EnsembleModel.load(model, device)


def for_inference(model: Bundle | Ensemble) -> Bundle | Ensemble:
    """The same with copies of its networks, made to embed and nothing else: see `folded`."""
    if isinstance(model, Ensemble):
        return dataclasses.replace(model, bundles=tuple(_folded(bundle) for bundle in model.bundles))
    return _folded(model)


def _folded(bundle: Bundle) -> Bundle:
    return dataclasses.replace(bundle, network=folded(bundle.network, bundle.preprocessing.size))
