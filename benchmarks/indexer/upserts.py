"""Durable upserts a second: bare SQLite with the same grouping, the store as a library, and over gRPC.

All write the same items in the same chunks, one transaction with synchronous=FULL a chunk, each into files of its own, in turn.
"""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.process import running_indexer
from lookalike import Client, Item, Servers, Space
from lookalike_indexer.admission import Offer
from lookalike_indexer.collection import OpenCollection, create_folder
from lookalike_indexer.records import Collection, Dba, now
from lookalike_indexer.records import Space as SpaceRecord
from lookalike_indexer.store import NewItem
from lookalike_protos.packing import rows_per_batch

_FINGERPRINT = "ls1:" + "0" * 64
_MOST_ITEMS = 1_000
_TABLE = """
CREATE TABLE item (
    id TEXT PRIMARY KEY, sequence INTEGER, vector_sequence INTEGER, create_time INTEGER, update_time INTEGER,
    label TEXT, uri TEXT, content_sha256 BLOB, payload TEXT, vector BLOB, thumbnail BLOB)
"""

Vectors = NDArray[np.float32]
Row = tuple[str | int | bytes, ...]


def measure(workdir: Path, *, dim: int = 2048, items: int = 8_192, repeats: int = 5, seed: int = 1) -> dict[str, Any]:
    """Return items a second of each way, the median of `repeats` in turn, and their ratios to bare SQLite; files go under `workdir`."""
    vectors = np.random.default_rng(seed).standard_normal((items, dim)).astype(np.float32)
    chunk = min(_MOST_ITEMS, rows_per_batch(dim))
    ways: dict[str, Callable[[Path], float]] = {
        "sqlite": lambda folder: _bare(folder, vectors, chunk),
        "library": lambda folder: _library(folder, vectors, chunk),
        "grpc": lambda folder: _grpc(folder, vectors),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            with tempfile.TemporaryDirectory(dir=workdir) as folder:
                seconds[name].append(way(Path(folder)))
    rates = {name: items / statistics.median(each) for name, each in seconds.items()}
    return {
        "settings": {"dim": dim, "items": items, "chunk_items": chunk, "repeats": repeats, "synchronous": "FULL", "dba": "off"},
        "items_per_second": rates,
        "seconds": seconds,
        "upsert_vs_sqlite": rates["library"] / rates["sqlite"],
        "grpc_upsert_vs_sqlite": rates["grpc"] / rates["sqlite"],
    }


def _bare(folder: Path, vectors: Vectors, chunk: int) -> float:
    """Nothing but a table, a key, and rows that lie ready."""
    moment = now()
    rows: list[Row] = [
        (_id(n), 1, 1, moment, moment, _label(n), _uri(n), b"", "", vector.tobytes(), b"") for n, vector in enumerate(vectors)
    ]
    with closing(sqlite3.connect(folder / "items.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(_TABLE)
        started = time.perf_counter()
        for part in _slices(len(rows), chunk):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT OR REPLACE INTO item VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows[part])
            connection.execute("COMMIT")
        return time.perf_counter() - started


def _library(folder: Path, vectors: Vectors, chunk: int) -> float:
    """An open collection: judged, committed, and visible to searches."""
    space = SpaceRecord(fingerprint=_FINGERPRINT, model="bench", version=1, profile="plain", dim=vectors.shape[1])
    record = Collection(uid="bench", name="bench", space=space, engine="annoy", dba=Dba(), recall_target=0.95, create_time=now())
    offers = [Offer(NewItem(_id(n), _label(n), _uri(n))) for n in range(len(vectors))]
    create_folder(folder / record.uid)
    with closing(OpenCollection(folder / record.uid, record)) as collection:
        started = time.perf_counter()
        for part in _slices(len(offers), chunk):
            written = collection.upsert(offers[part], vectors[part])
            assert written.kept == part.stop - part.start
        return time.perf_counter() - started


def _grpc(folder: Path, vectors: Vectors) -> float:
    """A server of its own and the synchronous client."""
    space = Space(_FINGERPRINT, "bench", 1, "plain", vectors.shape[1])
    items = [Item(_id(n), _label(n), _uri(n)) for n in range(len(vectors))]
    with running_indexer(folder / "data") as server, Client(Servers(indexer=server.address)) as client:
        name = client.indexer.create_collection("bench", space).name
        started = time.perf_counter()
        result = client.indexer.upsert_items(name, items, vectors, space)
        seconds = time.perf_counter() - started
        assert result.kept_count == len(items)
        return seconds


def _slices(count: int, chunk: int) -> Sequence[slice]:
    return [slice(start, min(start + chunk, count)) for start in range(0, count, chunk)]


def _id(number: int) -> str:
    return f"class-{number % 100:03d}/{number:08d}.jpg"


def _label(number: int) -> str:
    return f"class-{number % 100:03d}"


def _uri(number: int) -> str:
    return f"pictures/{_id(number)}"
