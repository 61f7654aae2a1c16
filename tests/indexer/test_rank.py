"""Rankings without a server around them: one state of each side, room on the disk, memory."""

from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lookalike_indexer.admission import Offer
from lookalike_indexer.collection import ITEMS_FILE, OpenCollection
from lookalike_indexer.rank.job import Job, Line, Side
from lookalike_indexer.rank.rankings import Rankings, Task
from lookalike_indexer.rank.snapshot import take_state
from lookalike_indexer.rank.stages import run_ranking
from lookalike_indexer.records import Dba
from lookalike_indexer.store import NewItem, Rows, Store
from lookalike_runtime.errors import Aborted, FailedPrecondition, ResourceExhausted
from tests.indexer.conftest import read_all

DIM = 8
Write = Callable[[int], None]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / ITEMS_FILE)
    yield opened
    opened.close()


def put(store: Store, ids: list[str], seed: int = 0, dim: int = DIM) -> int:
    return store.upsert([NewItem(each) for each in ids], np.random.default_rng(seed).standard_normal((len(ids), dim)).astype(np.float32))


def writing_between_pages(store: Store, monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    """Let `write` run after each page that is read, and between the readings of what changed."""
    pages, changes = store.pages_up_to, store.changes
    runs = iter(range(1_000_000))

    def paused(revision: int, dim: int) -> Iterator[Rows]:
        for page in pages(revision, dim):
            yield page
            write(next(runs))

    def changes_paused(since: int, dim: int) -> tuple[Rows, list[str]]:
        found = changes(since, dim)
        write(next(runs))
        return found

    monkeypatch.setattr(store, "pages_up_to", paused)
    monkeypatch.setattr(store, "changes", changes_paused)


def test_a_state_holds_all_items_by_id(store: Store, tmp_path: Path) -> None:
    put(store, [f"{n:05d}" for n in np.random.default_rng(0).permutation(3000)])
    state = take_state(store, DIM, tmp_path / "rows")
    revision, rows = read_all(store, DIM)
    assert (state.revision, state.ids) == (revision, rows.ids)
    assert (state.units == rows.units).all()


@pytest.mark.parametrize("step", [1, 2])
def test_a_state_is_of_one_revision_whatever_is_written_replaced_and_deleted_meanwhile(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """With a step of 2 only items that are there are written."""
    put(store, [f"{n:05d}" for n in range(0, 6000, 2)])

    def write(run: int) -> None:
        if run < 6:
            put(store, [f"{n:05d}" for n in range(run * 500, run * 500 + 300, step)], seed=run + 1)
            store.delete([f"{n:05d}" for n in range(run * 500 + 400, run * 500 + 440)])

    writing_between_pages(store, monkeypatch, write)
    state = take_state(store, DIM, tmp_path / "rows")
    revision, rows = read_all(store, DIM)
    assert (state.revision, state.ids) == (revision, rows.ids)
    assert (state.units == rows.units).all()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("rows")] == ["rows"]


def test_writes_without_a_pause_are_told(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, ["a", "b"])
    writing_between_pages(store, monkeypatch, lambda run: put(store, ["a"], seed=run))  # type: ignore[arg-type]
    with pytest.raises(Aborted, match="faster than it could be read"):
        take_state(store, DIM, tmp_path / "rows")


def test_a_collection_that_was_emptied_meanwhile_is_told(store: Store, tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="no items"):
        take_state(store, DIM, tmp_path / "rows")


def test_memory_does_not_grow_with_the_pairs(store: Store, tmp_path: Path) -> None:
    ids = [f"{n:05d}" for n in range(6000)]
    put(store, ids)
    side = Side(database=tmp_path / ITEMS_FILE, dba=Dba(k=3, rounds=2))
    (tmp_path / "files").mkdir()
    job = Job(queries=side, references=side, folder=tmp_path / "files", dim=DIM, k=10, exclude_same_id=True)
    rows = 0

    def tell(line: Line, *data: bytes) -> None:
        nonlocal rows
        rows += len(line.rows.query_ids) if line.rows else 0

    tracemalloc.start()
    run_ranking(job, tell)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == 6000
    assert peak < 70e6  # the matrix of all scores would take 144e6


async def test_a_ranking_that_the_disk_has_no_room_for_is_refused_with_both_figures(
    tmp_path: Path, collection: OpenCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = np.random.default_rng(0).standard_normal((100, DIM)).astype(np.float32)
    collection.upsert([Offer(NewItem(f"{n}")) for n in range(100)], vectors)
    rankings = Rankings(tmp_path / "rankings")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1234))
    task = Task(collection, collection, 3, Dba(k=3), Dba(), exclude_same_id=False)
    with pytest.raises(ResourceExhausted, match=r"needs [0-9,]+ bytes for its files, the disk has 1,234"):
        async for _ in rankings.rank(task):
            pass
    assert not list((tmp_path / "rankings").iterdir())


async def test_what_an_earlier_server_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "rankings" / "old").mkdir(parents=True)
    Rankings(tmp_path / "rankings")
    assert not list((tmp_path / "rankings").iterdir())
