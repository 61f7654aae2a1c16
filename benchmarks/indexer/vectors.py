"""Vectors to measure search, augmentation and ranking with: drawn like a pooled network's, and those of real pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from lookalike_images import decode, preprocess

_BLOCK_ROWS = 4_096
_WITHIN = 0.6
_REAL_SIZE = 96
_REAL_BATCH = 64


class Labelled(NamedTuple):
    """`vectors` float32 [n, d] of unit length, `labels` int64 [n]."""

    vectors: NDArray[np.float32]
    labels: NDArray[np.int64]


def drawn(items: int, dim: int = 2_048, *, per_class: int = 10, latent: int = 256, noise: float = 0.35, seed: int = 1) -> Labelled:
    """Draw vectors as a pooled network gives them; the same arguments give the same vectors.

    A class is a centre in a latent space whose spectrum falls by a power law, a member its centre and noise of the same spectrum. A random
    linear map with a ReLU makes `dim` features, none negative, of it; noise of full rank is added to them, so that no projection is free.
    """
    rng = np.random.default_rng(seed)
    spectrum = np.sqrt(1 / np.arange(1, latent + 1)).astype(np.float32)
    classes = -(-items // per_class)
    centres = rng.standard_normal((classes, latent), dtype=np.float32) * spectrum
    lift = rng.standard_normal((latent, dim), dtype=np.float32) / np.linalg.norm(spectrum)
    labels = rng.permutation(np.repeat(np.arange(classes), per_class)[:items])
    vectors = np.empty((items, dim), np.float32)
    for start in range(0, items, _BLOCK_ROWS):
        of = labels[start : start + _BLOCK_ROWS]
        members = centres[of] + _WITHIN * rng.standard_normal((len(of), latent), dtype=np.float32) * spectrum
        features = np.maximum(members @ lift, 0) + noise * np.abs(rng.standard_normal((len(of), dim), dtype=np.float32))
        vectors[start : start + _BLOCK_ROWS] = features / np.linalg.norm(features, axis=1, keepdims=True)
    return Labelled(vectors, labels)


def real(pictures: Path, items: int, cache: Path) -> Labelled:
    """Embed the pictures `CLASS/FILE` anywhere below `pictures`, and augmentations until there are `items`, with efficientnet_lite0.

    Kept in `cache` (npz), and read from there where that holds as many. Takes about ten minutes a 50,000 on one core.

    Raises:
        FileNotFoundError: there are no pictures.
    """
    if cache.is_file():
        with np.load(cache) as kept:
            if len(kept["vectors"]) == items:
                return Labelled(kept["vectors"], kept["labels"])
    files = sorted(pictures.rglob("*.png"))
    if not files:
        raise FileNotFoundError(f"there are no pictures below {pictures}: run the demo first (make demo)")
    classes = {name: number for number, name in enumerate(sorted({file.parent.name for file in files}))}
    labels = np.array([classes[files[item % len(files)].parent.name] for item in range(items)], np.int64)
    vectors = np.concatenate(list(_embedded(files, items)))
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.savez(cache, vectors=vectors, labels=labels)
    return Labelled(vectors, labels)


def _embedded(files: Sequence[Path], items: int) -> Iterator[NDArray[np.float32]]:
    # torch is only for this.
    from lookalike_model.builtin import EFFICIENTNET_LITE0
    from lookalike_model.embedding_model import EmbeddingModel
    from lookalike_model.network import RetrievalNetwork
    from lookalike_model.profile import Profile
    from lookalike_model.spec import NetworkSpec
    from lookalike_model.timm_config import preprocessing_of, statistics_of
    from lookalike_model.weights import load_weights

    name = EFFICIENTNET_LITE0.architecture
    network = RetrievalNetwork(NetworkSpec(architecture=name), statistics_of(name))
    load_weights(network, EFFICIENTNET_LITE0.path())
    spec = preprocessing_of(name, _REAL_SIZE)
    model = EmbeddingModel(network, spec, "plain", Profile())
    for start in range(0, items, _REAL_BATCH):
        batch = range(start, min(items, start + _REAL_BATCH))
        yield model.embed(np.stack([preprocess(_picture(files, item), spec) for item in batch]))


def _picture(files: Sequence[Path], item: int) -> Image.Image:
    """Return the picture of an item: the first of each file is as it is, others are turned, cropped, and of other brightness and colour."""
    picture = decode(files[item % len(files)].read_bytes())
    if item < len(files):
        return picture
    draws = np.random.default_rng([1, item]).uniform(size=6)
    width, height = picture.size
    turned = picture.rotate(40 * draws[0] - 20, Image.Resampling.BICUBIC, fillcolor=(255, 255, 255))
    share = 0.7 + 0.3 * draws[1]
    left, top = draws[2] * (1 - share) * width, draws[3] * (1 - share) * height
    cropped = turned.resize((width, height), Image.Resampling.BICUBIC, (left, top, left + share * width, top + share * height))
    return ImageEnhance.Color(ImageEnhance.Brightness(cropped).enhance(0.7 + 0.6 * draws[4])).enhance(0.5 + draws[5])
