from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lookalike_indexer.build_log import BuildLog
from lookalike_indexer.catalog import Catalog, open_catalog
from lookalike_indexer.collection import OpenCollection, create_folder
from lookalike_indexer.database import Database
from lookalike_indexer.records import Collection, Dba, Space, now
from lookalike_indexer.store import Rows, Store, layout_of
from lookalike_retrieval import normalise

SPACE = Space(fingerprint="ls1:" + "a" * 64, model="shoes", version=1, profile="plain", dim=8)


@pytest.fixture
def space() -> Space:
    return SPACE


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.fixture
def record() -> Collection:
    return Collection(uid="u" * 32, name="shoes", space=SPACE, engine="annoy", dba=Dba(), recall_target=0.95, create_time=now())


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = open_catalog(tmp_path / "catalog.db")
    yield database
    database.close()


@pytest.fixture
def catalog(database: Database) -> Catalog:
    return Catalog(database)


@pytest.fixture
def builds(database: Database) -> BuildLog:
    return BuildLog(database)


@pytest.fixture
def collection(tmp_path: Path, record: Collection) -> Iterator[OpenCollection]:
    """An open, empty collection of 8 dimensions."""
    create_folder(tmp_path / record.uid)
    opened = OpenCollection(tmp_path / record.uid, record)
    yield opened
    opened.close()


def read_all(store: Store, dim: int) -> tuple[int, Rows]:
    """Return the revision and all items ordered by id, from one state of the store."""
    with store.one_state(1_000) as state:
        items = [item for part in state.parts for item in part]
        raw = np.frombuffer(b"".join(item.vector for item in items), layout_of(len(items[0].vector), dim)).reshape(-1, dim)
        return state.revision, Rows([item.id for item in items], normalise(raw.astype(np.float32)))
