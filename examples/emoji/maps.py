"""Maps of the same unseen classes in the space of two models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from examples.emoji.embedding_map import flat_map, neighbour_agreement
from examples.emoji.page import EmbeddingMap, MapPoint, picture_uri
from lookalike import Client, Target

PICTURES_A_CALL = 64


def embedding_maps(client: Client, test: Path, classes: int, models: Sequence[tuple[str, str]]) -> list[EmbeddingMap]:
    """Return a map for each (title, model's name) of all pictures of `classes` test classes, an even sample by name."""
    names = sorted({folder.name for folder in test.glob("*/*")})
    shown = set(names[:: max(1, len(names) // classes)][:classes])
    pictures = sorted(path for path in test.glob("*/*/*.png") if path.parent.name in shown)
    labels = [path.parent.name for path in pictures]
    maps = []
    for title, model in models:
        vectors = _embed(client, model, pictures)
        points = [
            MapPoint(picture_uri(path), label, float(x), float(y))
            for path, label, (x, y) in zip(pictures, labels, flat_map(vectors), strict=True)
        ]
        maps.append(EmbeddingMap(title, points, neighbour_agreement(vectors, labels)))
    return maps


def _embed(client: Client, model: str, pictures: Sequence[Path]) -> NDArray[np.float32]:
    target = Target(f"models/{model}")
    calls = [pictures[start : start + PICTURES_A_CALL] for start in range(0, len(pictures), PICTURES_A_CALL)]
    return np.concatenate([client.embedder.embed(target, [path.read_bytes() for path in call]).vectors for call in calls])
