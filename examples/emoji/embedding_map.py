"""A flat map of embeddings: pictures of one class should lie together, far from others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from lookalike_retrieval import exact_topk


def flat_map(vectors: NDArray[np.float32], *, seed: int = 0) -> NDArray[np.float64]:
    """Return positions [n, 2] within 0 to 1 for unit rows `vectors` [n, d] by t-SNE over cosine distance (van der Maaten & Hinton 2008)."""
    tsne = TSNE(metric="cosine", init="random", perplexity=min(12, len(vectors) // 4), random_state=seed)
    positions: NDArray[np.float64] = tsne.fit_transform(vectors).astype(np.float64)
    low, high = positions.min(axis=0), positions.max(axis=0)
    spread: NDArray[np.float64] = (positions - low) / np.maximum(high - low, 1e-9)
    return spread


def neighbour_agreement(vectors: NDArray[np.float32], labels: Sequence[str]) -> float:
    """Return the share of pictures whose nearest other one has the same label, 0 to 1."""
    names = np.asarray(labels)
    nearest = exact_topk(vectors, vectors, 1, exclude=np.arange(len(vectors))).indices[:, 0]
    return float((names[nearest] == names).mean())
