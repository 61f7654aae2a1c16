"""Pictures to vectors, as a bundle's profile says."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import normalize

from lookalike_images import DECODER_REVISION, Preprocessing
from lookalike_model.fingerprint import Space, space_fingerprint
from lookalike_model.inputs import PictureInputs
from lookalike_model.network import RetrievalNetwork
from lookalike_model.numerics import Numerics, Precision
from lookalike_model.profile import Profile, Tap, ViewParts
from lookalike_model.projection import Projection
from lookalike_model.rounding import forget_exact_weights, restore_weights, round_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from lookalike_model.bundle import Bundle


class ModelLoadError(ValueError):
    """The bundle cannot be served as asked; the message says why and what to do."""


class PictureModel(ABC):
    """A model with one of its profiles, ready to embed on one device.

    Several threads may embed at a time, as long as none changes how it computes.

    Attributes:
        inputs: what it takes of a picture.
        dim: values a vector.
        device: where torch computes.
        profile_name: what the profile is called in its bundle.
        numerics: how it computes; change it by `use`.
    """

    def __init__(self, inputs: PictureInputs, dim: int, device: torch.device, profile_name: str, numerics: Numerics) -> None:
        self.inputs = inputs
        self.dim = dim
        self.device = device
        self.profile_name = profile_name
        self.numerics = numerics

    @property
    def precision(self) -> Precision:
        """The precision that it computes in."""
        return self.numerics.precision

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Of the space of its vectors."""

    @property
    @abstractmethod
    def networks(self) -> tuple[RetrievalNetwork, ...]:
        """The networks that it runs; profiles of one bundle share them."""

    @property
    @abstractmethod
    def architecture(self) -> str:
        """What its networks are called, one after the other."""

    @abstractmethod
    def use(self, numerics: Numerics) -> None:
        """Compute otherwise from now on. Changes its networks, and with them those of its bundle, in place.

        Raises:
            CompileError: it cannot be compiled.
        """

    def settle(self, threads: Collection[int]) -> None:
        """Free what other numerics would need; `use` must not ask for them any more.

        Args:
            threads: how many it will run with; what is compiled is made for these.
        """
        for network in self.networks:
            if self.numerics.compiled and network.compiled is not None:
                network.compiled.settle(self.precision, threads)
                network.to("meta")
            else:
                network.compiled = None
                forget_exact_weights(network)

    @abstractmethod
    def vectors(self, parts: Sequence[Tensor]) -> Tensor:
        """For each of `inputs` uint8 [n, s, s, 3] on the device → float32 [n, dim]."""

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The pixels of n pictures, as `inputs` lays them out → float32 [n, dim], unit rows if the profile normalises.

        A picture's vector does not depend on what else is in the batch (1 − cosine ≤ 1e-5).
        """
        if len(pixels) == 0:
            return np.zeros((0, self.dim), dtype=np.float32)
        return self.embed_parts(self.inputs.split(pixels))

    @torch.inference_mode()
    def embed_parts(self, parts: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """For each of `inputs` uint8 [n, s, s, 3], n ≥ 1 → float32 [n, dim], as `embed`."""
        result: NDArray[np.float32] = self.vectors([torch.from_numpy(part).to(self.device) for part in parts]).cpu().numpy()
        return result

    def embed_pictures(self, pictures: Sequence[bytes], batch_size: int = 32) -> NDArray[np.float32]:
        """Encoded pictures → float32 [n, dim].

        Raises:
            PictureError: one of them cannot be decoded.
        """
        batches = [
            self.embed(np.stack([self.inputs.pixels(p) for p in pictures[at : at + batch_size]]))
            for at in range(0, len(pictures), batch_size)
        ]
        return np.concatenate(batches) if batches else np.zeros((0, self.dim), dtype=np.float32)

    def space(self, model: str, version: str) -> Space:
        """The space of the vectors, for a model of this name and version in the registry."""
        return Space(self.fingerprint, model, version, self.profile_name, self.dim)


class EmbeddingModel(PictureModel):
    """One network with a profile.

    Args:
        network: is moved to the device and set to inference.
        preprocessing: how pictures become pixels.
        profile_name: what the profile is called in its bundle.
        profile: tap, projection, views and normalisation.
        fingerprint: of the space, as the bundle says; computed when it is asked for if None.
        device: where torch computes.
        precision: fp32 (never TF32), or bf16 by autocast.
        projection: the tensors of the profile's projection, if it has one.

    Raises:
        NetworkError: the network has no such tap.
        ValueError: the profile's views or projection do not go with the network.
    """

    def __init__(
        self,
        network: RetrievalNetwork,
        preprocessing: Preprocessing,
        profile_name: str,
        profile: Profile,
        fingerprint: str | None = None,
        device: str | torch.device = "cpu",
        precision: Precision = "fp32",
        projection: Projection | None = None,
    ) -> None:
        dim = vector_dim(network, preprocessing, profile, projection)
        self._views = [ViewParts.of(view) for view in profile.views]
        sizes = {view.scale: preprocessing_at(preprocessing, view.scale) for view in self._views}
        self._part_of = {scale: index for index, scale in enumerate(sizes)}
        super().__init__(PictureInputs(tuple(sizes.values())), dim, torch.device(device), profile_name, Numerics(precision))
        self.preprocessing = preprocessing
        self.profile = profile
        self.projection = None if projection is None else projection.to(self.device)
        self._fingerprint = fingerprint
        self._network = network.to(self.device).to(memory_format=self.numerics.memory_format).eval()

    @classmethod
    def load(
        cls,
        bundle: Bundle,
        profile: str | None = None,
        device: str | torch.device = "cpu",
        precision: Precision = "fp32",
    ) -> EmbeddingModel:
        """A bundle's network with one of its profiles.

        Args:
            bundle: as read; it is the bundle's own network that is moved to the device.
            profile: a name in the bundle; its default profile if None.

        Raises:
            ModelLoadError: no such profile or device, or pictures were decoded differently when the bundle was made.
        """
        name = profile or bundle.default_profile
        if name not in bundle.profiles:
            raise ModelLoadError(f"the bundle has no profile `{name}`; it has: {', '.join(bundle.profiles)}")
        check_decoder(bundle.decoder_revision)
        entry = bundle.profiles[name]
        projection = bundle.projection_of(entry.profile)
        try:
            return cls(bundle.network, bundle.preprocessing, name, entry.profile, entry.fingerprint, device, precision, projection)
        except (RuntimeError, AssertionError) as error:
            raise ModelLoadError(f"the model cannot be put on device `{device}`: {error}") from error

    @property
    def fingerprint(self) -> str:
        """Of the space, as the bundle says or as computed."""
        return self._fingerprint or self.computed_fingerprint()

    @property
    def networks(self) -> tuple[RetrievalNetwork, ...]:
        """Its network."""
        return (self._network,)

    @property
    def architecture(self) -> str:
        """The network's name in timm."""
        return self._network.spec.architecture

    def use(self, numerics: Numerics) -> None:
        """Compute otherwise from now on."""
        self.numerics = numerics
        if numerics.precision == "bf16" and not numerics.compiled:
            round_weights(self._network)
        else:
            restore_weights(self._network)
        self._network.to(memory_format=numerics.memory_format)
        if numerics.compiled:
            self._compile()

    def vectors(self, parts: Sequence[Tensor]) -> Tensor:
        """For each of `inputs` uint8 [n, s, s, 3] on the device → float32 [n, dim]."""
        vectors = self._tapped(parts, self._views[0])
        for view in self._views[1:]:
            vectors = vectors + self._tapped(parts, view)
        if len(self._views) > 1:
            vectors = vectors / len(self._views)
        vectors = self._unit(vectors)
        return vectors if self.projection is None else self._unit(self.projection.apply(vectors))

    def computed_fingerprint(self) -> str:
        """The fingerprint of what is loaded here, computed anew."""
        return space_fingerprint(self._network, self.preprocessing, DECODER_REVISION, self.profile, self.projection)

    def _compile(self) -> None:
        # Only who serves has OpenVINO.
        from lookalike_model.compiled import CompiledNetwork

        self._network.compiled = self._network.compiled or CompiledNetwork()
        for spec in self.inputs.specs:
            self._network.compiled.take(self._network, spec.size)

    def _tapped(self, parts: Sequence[Tensor], view: ViewParts) -> Tensor:
        pixels = parts[self._part_of[view.scale]]
        if view.flip:
            pixels = pixels.flip(2)
        return self._outputs(pixels)[self.profile.tap].float()

    def _outputs(self, pixels: Tensor) -> dict[Tap, Tensor]:
        if self.numerics.compiled and self._network.compiled is not None:
            return self._network.compiled(pixels, self.precision)
        images = self._network.to_input(pixels)
        with self.numerics.applied(self.device):
            outputs: dict[Tap, Tensor] = self._network(images.contiguous(memory_format=self.numerics.memory_format))
        return outputs

    def _unit(self, vectors: Tensor) -> Tensor:
        return normalize(vectors, dim=1) if self.profile.normalise else vectors


def vector_dim(network: RetrievalNetwork, preprocessing: Preprocessing, profile: Profile, projection: Projection | None) -> int:
    """How many values a profile's vectors have.

    Raises:
        NetworkError: the network has no such tap.
        ValueError: its views or its projection do not go with the network.
    """
    width = network.width(profile.tap)
    scales = {ViewParts.of(view).scale for view in profile.views}
    if network.spec.image_size is not None and scales != {1.0}:
        raise ValueError(f"{network.spec.architecture} takes pictures of one size only, so no views of another scale")
    for scale in scales:
        preprocessing_at(preprocessing, scale)
    if (profile.projection is None) != (projection is None):
        raise ValueError("a projection is named without its tensors, or has tensors and no name")
    if profile.projection is None or projection is None:
        return width
    if (projection.width, projection.dim) != (width, profile.projection.dim):
        raise ValueError(
            f"projection `{profile.projection.name}` maps {projection.width} values to {projection.dim}; "
            f"the tap has {width}, the profile says {profile.projection.dim}"
        )
    return projection.dim


def preprocessing_at(preprocessing: Preprocessing, scale: float) -> Preprocessing:
    """The same for pictures that are so many times larger; raises ValueError if that is too large or too small."""
    return preprocessing if scale == 1 else dataclasses.replace(preprocessing, size=round(preprocessing.size * scale))


def check_decoder(revision: int | str) -> None:
    """Raise ModelLoadError unless pictures are decoded here as where a bundle was made."""
    if revision != DECODER_REVISION:
        raise ModelLoadError(
            f"the bundle was made with decoder revision {revision}, this installation decodes with "
            f"{DECODER_REVISION}: its vectors would differ. Train or import the model again, or install the "
            "version of lookalike-images that it was made with"
        )
