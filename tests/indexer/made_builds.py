"""Collections with builds, without a server."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.admission import Offer
from lookalike_indexer.builds.job import Job
from lookalike_indexer.builds.stages import run_build
from lookalike_indexer.collection import ITEMS_FILE, OpenCollection
from lookalike_indexer.records import Dba
from lookalike_indexer.served_build import open_build
from lookalike_indexer.store import NewItem

Vectors = NDArray[np.float32]


def put(collection: OpenCollection, ids: Sequence[str], vectors: Vectors) -> None:
    collection.upsert([Offer(NewItem(each)) for each in ids], vectors)


def build(collection: OpenCollection, number: int, dba: Dba) -> None:
    """Build what is there and serve it."""
    folder = collection.build_folder(number)
    folder.mkdir()
    job = Job(
        database=collection.folder / ITEMS_FILE, folder=folder, space=collection.space, engine="exact", dba=dba,
        trees=5, reduced_dim=4, force_engine=False, recall_target=0.95, exact_below=0,
    )  # fmt: skip
    run_build(job, lambda _: None)
    collection.serve(open_build(folder, number, collection.space), lambda: None)


def clustered(count: int, dim: int, seed: int = 3) -> Vectors:
    """As embeddings are: few directions carry most, items stand in groups of about seven."""
    rng = np.random.default_rng(seed)
    scales = np.arange(1, dim + 1) ** -0.7
    centres = rng.standard_normal((count // 7, dim))
    return ((centres[rng.integers(len(centres), size=count)] + 0.5 * rng.standard_normal((count, dim))) * scales).astype(np.float32)
