"""Augmentation of live items: how near its answers are to a new build's, how long it takes, what it costs writers.

python -m benchmarks.indexer.live_dba VECTORS.npy [--weights equal] [-k 3] [--share 0.1]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.admission import Offer
from lookalike_indexer.augmenter import Augmenter
from lookalike_indexer.builds.job import Job
from lookalike_indexer.builds.stages import run_build
from lookalike_indexer.collection import ITEMS_FILE, OpenCollection, create_folder
from lookalike_indexer.records import Collection, Dba, Space
from lookalike_indexer.search import search
from lookalike_indexer.served_build import open_build
from lookalike_indexer.store import NewItem
from lookalike_retrieval import normalise

AS_IN_THE_DEMO = Dba(k=3, weights="equal")

_CHUNK = 250
_BATCH = 256
_QUERIES_AT_ONCE = 64
_K = 10

Vectors = NDArray[np.float32]


class _One(NamedTuple):
    """All the collections that are open."""

    collection: OpenCollection

    def opened(self) -> list[OpenCollection]:
        return [self.collection]


class _Made(NamedTuple):
    """A collection and what it holds: `late` vectors are written after its first build."""

    collection: OpenCollection
    dba: Dba
    vectors: Vectors
    late: NDArray[np.int64]

    def build(self, number: int) -> float:
        """Build what is there and serve it; returns seconds."""
        started = time.perf_counter()
        folder = self.collection.build_folder(number)
        folder.mkdir()
        job = Job(
            database=self.collection.folder / ITEMS_FILE, folder=folder, space=self.collection.space, engine="exact", dba=self.dba,
            trees=1, reduced_dim=2, force_engine=False, recall_target=0.95, exact_below=0,
        )  # fmt: skip
        run_build(job, lambda _: None)
        self.collection.serve(open_build(folder, number, self.collection.space), lambda: None)
        return time.perf_counter() - started

    def write(self, places: NDArray[np.int64]) -> float:
        """Upsert these vectors; returns how many a second."""
        started = time.perf_counter()
        for start in range(0, len(places), _CHUNK):
            chunk = places[start : start + _CHUNK]
            self.collection.upsert([Offer(NewItem(f"{place:08d}")) for place in chunk.tolist()], self.vectors[chunk])
        return len(places) / (time.perf_counter() - started)

    def answers(self, queries: Vectors) -> list[set[str]]:
        parts = [search(self.collection.view, queries[at : at + _QUERIES_AT_ONCE], _K) for at in range(0, len(queries), _QUERIES_AT_ONCE)]
        return [set(hits.ids) for part in parts for hits in part.hits]


def measure(vectors: Vectors, *, dba: Dba = AS_IN_THE_DEMO, share: float = 0.1, queries: int = 500, seed: int = 0) -> dict[str, Any]:
    """Build all but a `share` of `vectors` [n, d], write that, augment it, and compare with a build of all.

    Returns:
        `overlap_at_10`: share of the ten hits that live answers have in common with the new build's, over queries that are items;
        `overlap_at_10_raw`: the same before anything was augmented; `augmented_per_second`: fresh items, in the one thread that does it;
        `touched_share`: items augmented anew, as a share of the built; `upserts_per_second` before a build, after it with nothing beside,
        and with augmentation beside.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(vectors))
    late, early = order[: int(len(vectors) * share)], np.sort(order[int(len(vectors) * share) :])
    asked = normalise(vectors[rng.permutation(len(vectors))[:queries]])
    with tempfile.TemporaryDirectory() as folder:
        made = _make(Path(folder), dba, vectors, late)
        made.write(early)
        build_seconds = made.build(1)
        alone = made.write(late)
        raw = made.answers(asked)
        augment_seconds = _augment(made.collection)
        live = made.answers(asked)
        touched = made.collection.view
        touched_share = float((~touched.fresh.newer[touched.fresh.live]).sum() / len(early))
        beside = _write_beside_augmentation(made)
        made.build(2)
        new = made.answers(asked)
        made.collection.close()
    return {
        "items": len(vectors), "dim": vectors.shape[1], "fresh": len(late), "dba": dba.model_dump(), "queries": len(asked),
        "overlap_at_10": _overlap(live, new), "overlap_at_10_raw": _overlap(raw, new), "touched_share": touched_share,
        "build_seconds": build_seconds, "augment_seconds": augment_seconds, "augmented_per_second": len(late) / augment_seconds,
        "upserts_per_second": alone, "upserts_per_second_beside_augmentation": beside,
    }  # fmt: skip


def _make(folder: Path, dba: Dba, vectors: Vectors, late: NDArray[np.int64]) -> _Made:
    space = Space(fingerprint="ls1:" + "0" * 64, model="measured", version=1, profile="plain", dim=vectors.shape[1])
    record = Collection(uid="c", name="c", space=space, engine="exact", dba=dba, recall_target=0.95, create_time=0)
    create_folder(folder / "c")
    return _Made(OpenCollection(folder / "c", record), dba, vectors, late)


def _augment(collection: OpenCollection) -> float:
    started = time.perf_counter()
    while collection.augment_waiting(_BATCH)[0]:
        pass
    return time.perf_counter() - started


def _write_beside_augmentation(made: _Made) -> float:
    """Write the fresh items again, while the augmenter does its work; returns how many a second."""
    augmenter = Augmenter(_One(made.collection), 0.01)
    augmenter.start()
    try:
        return made.write(made.late)
    finally:
        augmenter.stop()
        _augment(made.collection)


def _overlap(some: list[set[str]], others: list[set[str]]) -> float:
    return float(np.mean([len(a & b) / _K for a, b in zip(some, others, strict=True)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vectors", type=Path, help="float32 [n, d], as numpy saves it")
    parser.add_argument("-k", type=int, default=3, help="neighbours")
    parser.add_argument("--weights", choices=["equal", "linear", "rank", "power"], default="equal")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--share", type=float, default=0.1, help="of the vectors that are written after the build")
    arguments = parser.parse_args()
    dba = Dba(k=arguments.k, weights=arguments.weights, rounds=arguments.rounds)
    print(json.dumps(measure(np.load(arguments.vectors), dba=dba, share=arguments.share), indent=1))


if __name__ == "__main__":
    main()
