"""Pictures whose label is doubtful: they look more like another class than like the rest of their own."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1_024


@dataclass(frozen=True, slots=True)
class LabelDoubt:
    """How doubtful each picture's label is.

    Attributes:
        score: float32 [n], −2..2: cosine with the mean of the most alike other class, less that with the mean of the rest of its own class.
            Above 0 another class is nearer. −inf where the picture is alone in its class, so that nothing can be said.
        own, other: float32 [n], the two cosines.
        suspected: int64 [n], the class that is most alike.
    """

    score: NDArray[np.float32]
    own: NDArray[np.float32]
    other: NDArray[np.float32]
    suspected: NDArray[np.int64]


def doubt_labels(vectors: NDArray[np.float32], classes: NDArray[np.int64], count: int) -> LabelDoubt:
    """Compare each picture with the mean of each class, leaving the picture itself out of its own.

    A nearest-mean classifier with the picture left out; its margin ranks planted errors better than votes of neighbours do, since small
    classes have few neighbours to vote (benchmarks/trainer/label_noise.py).

    Args:
        vectors: [n, d], unit rows, of a network that was not trained on these labels.
        classes: [n], 0 to `count` − 1; at least two different ones.
    """
    sums = np.zeros((count, vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, classes, vectors)
    sizes = np.bincount(classes, minlength=count)
    means = _unit(sums)
    own = np.einsum("nd,nd->n", _unit(sums[classes] - vectors), vectors)
    other, suspected = np.empty(len(vectors), dtype=np.float32), np.empty(len(vectors), dtype=np.int64)
    for start in range(0, len(vectors), _BLOCK):
        block = slice(start, start + _BLOCK)
        alike = vectors[block] @ means.T
        alike[:, sizes == 0] = -np.inf
        alike[np.arange(len(alike)), classes[block]] = -np.inf
        suspected[block] = alike.argmax(axis=1)
        other[block] = alike.max(axis=1)
    score = np.where(sizes[classes] > 1, other - own, -np.inf).astype(np.float32)
    return LabelDoubt(score, own, other, suspected)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 1e-6)
    return scaled
