"""Vectors to and from the packed bytes of `lookalike.types.v1.VectorBatch`: the one place that knows their layout."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike_protos.types.v1.space_pb2 import Space
from lookalike_protos.types.v1.vectors_pb2 import D_TYPE_FLOAT16, D_TYPE_FLOAT32, VectorBatch

MAX_DIM = 16_384
MAX_BATCH_BYTES = 2 * 1024 * 1024

_LAYOUTS: dict[int, np.dtype[Any]] = {D_TYPE_FLOAT32: np.dtype("<f4"), D_TYPE_FLOAT16: np.dtype("<f2")}


class PackingError(ValueError):
    """A VectorBatch that is not what it says; `field` names the wrong part of it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def pack_vectors(vectors: NDArray[np.floating[Any]], space: Space) -> VectorBatch:
    """Pack `vectors` [n, dim] as float32 rows of `space`.

    Raises PackingError if the array is not two-dimensional or its width is not the space's.
    """
    if vectors.ndim != 2 or vectors.shape[1] != space.dim:
        raise PackingError("data", f"vectors of shape {vectors.shape} are not rows of a space of {space.dim} dimensions")
    data = np.ascontiguousarray(vectors, dtype="<f4").tobytes()
    return VectorBatch(data=data, dim=space.dim, dtype=D_TYPE_FLOAT32, space=space)


def unpack_vectors(batch: VectorBatch) -> NDArray[np.float32]:
    """Return the rows of `batch` as float32 [n, dim]; read-only when nothing had to be converted.

    Raises PackingError for an unknown dtype, a dimension out of 1 to 16,384 or other than the space's, and bytes that are not whole rows.
    """
    layout = _LAYOUTS.get(batch.dtype)
    if layout is None:
        raise PackingError("dtype", f"dtype {batch.dtype} is unknown: send D_TYPE_FLOAT32 or D_TYPE_FLOAT16")
    if not 1 <= batch.dim <= MAX_DIM:
        raise PackingError("dim", f"dim {batch.dim} is out of range: 1 to {MAX_DIM}")
    if batch.space.dim != batch.dim:
        raise PackingError("space.dim", f"space.dim {batch.space.dim} differs from dim {batch.dim}")
    data = batch.data  # each look at it would be a copy
    if len(data) > MAX_BATCH_BYTES:
        raise PackingError("data", f"data has {len(data)} bytes: at most {MAX_BATCH_BYTES} a batch, send several")
    if len(data) % (layout.itemsize * batch.dim):
        raise PackingError("data", f"data has {len(data)} bytes: no whole number of rows of {batch.dim} × {layout.itemsize} bytes")
    return np.frombuffer(data, dtype=layout).reshape(-1, batch.dim).astype(np.float32, copy=False)


def rows_per_batch(dim: int) -> int:
    """Return how many float32 rows of `dim` numbers fit into one batch."""
    return max(1, MAX_BATCH_BYTES // (4 * dim))
