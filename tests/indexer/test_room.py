from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from lookalike_indexer.admission import Offer
from lookalike_indexer.build_log import BuildLog
from lookalike_indexer.builds.installation import prepare
from lookalike_indexer.builds.queue import BuildQueue
from lookalike_indexer.builds.room import bytes_needed, require_room
from lookalike_indexer.builds.stages import run_build
from lookalike_indexer.catalog import Catalog
from lookalike_indexer.collection import OpenCollection
from lookalike_indexer.collections import Collections
from lookalike_indexer.records import BuildSpec, Collection, Dba, Engine, Progress
from lookalike_indexer.store import NewItem
from lookalike_runtime.errors import ResourceExhausted

COUNT = 400


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def filled(collection: OpenCollection, rng: np.random.Generator) -> OpenCollection:
    vectors = rng.standard_normal((COUNT, 8)).astype(np.float32)
    collection.upsert([Offer(NewItem(f"{n:04d}")) for n in range(COUNT)], vectors)
    return collection


@pytest.mark.parametrize("engine", ["annoy", "hnsw"])
@pytest.mark.parametrize("dba", [0, 3])
def test_a_build_never_takes_more_than_was_said(
    filled: OpenCollection, catalog: Catalog, builds: BuildLog, record: Collection, dba: int, engine: Engine
) -> None:
    record = record.model_copy(update={"engine": engine})
    catalog.add(record)
    spec = BuildSpec(dba=Dba(k=dba), force_engine=True)
    build, _ = builds.add(record.uid, spec, "r")
    job = prepare(filled, record, build, 0)
    most = 0

    def weigh(progress: Progress) -> None:
        nonlocal most
        most = max(most, sum(path.stat().st_size for path in job.folder.iterdir()))

    report = run_build(job, weigh)
    most = max(most, report.size_bytes)
    # ids.json and manifest.json are no vectors; the rest is what was asked about.
    assert report.size_bytes > COUNT * 8 * 4
    assert most <= bytes_needed(record, spec, COUNT, 0)


def test_what_is_added_shows_in_what_is_needed(record: Collection) -> None:
    plain = bytes_needed(record, BuildSpec(), 1000, 0)
    assert bytes_needed(record, BuildSpec(), 2000, 0) == 2 * plain
    assert bytes_needed(record, BuildSpec(dba=Dba(k=1)), 1000, 0) == plain + 1000 * (8 * 4 + 12)
    assert bytes_needed(record, BuildSpec(purge=True), 1000, 12_345) == plain + 12_345
    assert bytes_needed(record, BuildSpec(trees=1000), 1000, 0) > plain
    assert bytes_needed(record.model_copy(update={"engine": "exact"}), BuildSpec(), 1000, 0) < plain


def test_without_room_there_is_no_build_and_what_is_missing_is_said(
    filled: OpenCollection, catalog: Catalog, builds: BuildLog, record: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.add(record)
    needed = bytes_needed(record, BuildSpec(), COUNT, 0)
    build, _ = builds.add(record.uid, BuildSpec(), "r")

    def usage(path: Path) -> Usage:
        assert path == filled.folder
        return Usage(2 * needed, needed, free)

    monkeypatch.setattr("lookalike_indexer.builds.room.shutil.disk_usage", usage)
    free = needed
    require_room(filled, record, BuildSpec())
    free = needed - 1
    with pytest.raises(ResourceExhausted, match="which has") as error:
        prepare(filled, record, build, 0)
    assert (error.value.reason, error.value.metadata) == ("DISK_FULL", {"needed_bytes": str(needed), "free_bytes": str(free)})
    assert list((filled.folder / "builds").iterdir()) == []


async def test_room_is_asked_for_when_a_build_is_queued_and_again_when_it_begins(
    tmp_path_factory: pytest.TempPathFactory, catalog: Catalog, builds: BuildLog, record: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    collections = Collections(tmp_path_factory.mktemp("data") / "collections", catalog, builds)
    collections.create("shoes", record.space, "exact", Dba(), 0.95, None)
    collection = collections.get("shoes")
    collection.upsert([Offer(NewItem("a"))], np.ones((1, 8), np.float32))
    queue = BuildQueue(collections, catalog, builds, 0)
    free = 0
    monkeypatch.setattr("lookalike_indexer.builds.room.shutil.disk_usage", lambda _: Usage(0, 0, free))
    with pytest.raises(ResourceExhausted):
        await queue.create(collection, BuildSpec(), "refused")
    assert builds.page(collection.uid, None, 10) == []
    free = 10**9
    await queue.create(collection, BuildSpec(), "queued")
    free = 0
    await queue.start()
    events = [event async for event in queue.watch(collection.uid, 1, 0)]
    await queue.stop()
    assert events[-1].error is not None
    assert (events[-1].state, events[-1].error.reason) == ("FAILED", "DISK_FULL")
    assert list((collection.folder / "builds").iterdir()) == []
    collections.close()
