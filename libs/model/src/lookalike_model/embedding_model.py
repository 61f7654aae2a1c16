"""Pictures to vectors, as a bundle's profile says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch.nn.functional import normalize

from lookalike_images import DECODER_REVISION, Preprocessing, decode, preprocess
from lookalike_model.fingerprint import Space, space_fingerprint
from lookalike_model.network import RetrievalNetwork
from lookalike_model.profile import Profile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lookalike_model.bundle import Bundle

Precision = Literal["fp32", "bf16"]


class ModelLoadError(ValueError):
    """The bundle cannot be served as asked; the message says why and what to do."""


class EmbeddingModel:
    """A network with a profile, ready to embed on one device. Not safe for concurrent calls.

    Args:
        network: is moved to the device and set to inference.
        preprocessing: how pictures become pixels.
        profile_name: what the profile is called in its bundle.
        profile: tap, views and normalisation.
        fingerprint: of the space, as the bundle says; computed when it is asked for if None.
        device: where torch computes.
        precision: fp32 (never TF32), or bf16 by autocast.
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
    ) -> None:
        self.device = torch.device(device)
        self.precision = precision
        self.preprocessing = preprocessing
        self.profile_name = profile_name
        self.profile = profile
        self.dim = network.width(profile.tap)
        self._fingerprint = fingerprint
        self._network = network.to(self.device).to(memory_format=torch.channels_last).eval()

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
        if bundle.decoder_revision != DECODER_REVISION:
            raise ModelLoadError(
                f"the bundle was made with decoder revision {bundle.decoder_revision}, this installation decodes with "
                f"{DECODER_REVISION}: its vectors would differ. Train or import the model again, or install the "
                "version of lookalike-images that it was made with"
            )
        entry = bundle.profiles[name]
        try:
            return cls(bundle.network, bundle.preprocessing, name, entry.profile, entry.fingerprint, device, precision)
        except (RuntimeError, AssertionError) as error:
            raise ModelLoadError(f"the model cannot be put on device `{device}`: {error}") from error

    def space(self, model: str, version: str) -> Space:
        """The space of the vectors, for a model of this name and version in the registry."""
        fingerprint = self._fingerprint or self.computed_fingerprint()
        return Space(fingerprint, model, version, self.profile_name, self.dim)

    @torch.inference_mode()
    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [n, s, s, 3] RGB → float32 [n, dim], unit rows if the profile normalises.

        A picture's vector does not depend on what else is in the batch (1 − cosine ≤ 1e-5).
        """
        if len(pixels) == 0:
            return np.zeros((0, self.dim), dtype=np.float32)
        with self._numerics():
            images = self._network.to_input(torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device))
            vectors = self._network(images)[self.profile.tap].float()
        if self.profile.normalise:
            vectors = normalize(vectors, dim=1)
        result: NDArray[np.float32] = vectors.cpu().numpy()
        return result

    def embed_pictures(self, pictures: Sequence[bytes], batch_size: int = 32) -> NDArray[np.float32]:
        """Encoded pictures → float32 [n, dim].

        Raises:
            PictureError: one of them cannot be decoded.
        """
        batches = [
            self.embed(np.stack([preprocess(decode(p), self.preprocessing) for p in pictures[at : at + batch_size]]))
            for at in range(0, len(pictures), batch_size)
        ]
        return np.concatenate(batches) if batches else np.zeros((0, self.dim), dtype=np.float32)

    def computed_fingerprint(self) -> str:
        """The fingerprint of what is loaded here, computed anew."""
        return space_fingerprint(self._network, self.preprocessing, DECODER_REVISION, self.profile)

    @contextmanager
    def _numerics(self) -> Iterator[None]:
        """bf16 by autocast, or fp32 without the TF32 that cuDNN takes by default."""
        if self.precision == "bf16":
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                yield
        elif self.device.type == "cuda":
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                yield
        else:
            yield
