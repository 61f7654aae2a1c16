"""How a build that was written aside comes to answer searches: renamed, verified, swapped in; older ones let go."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

from lookalike_indexer.build_log import BuildLog
from lookalike_indexer.builds.job import Job
from lookalike_indexer.builds.manifest import DamagedBuild
from lookalike_indexer.builds.room import require_room
from lookalike_indexer.collection import BUILDS_FOLDER, ITEMS_FILE, OpenCollection
from lookalike_indexer.database import refusing_when_full
from lookalike_indexer.records import Build, BuildReport, Collection
from lookalike_indexer.served_build import open_build
from lookalike_runtime.data_folder import sync_folder
from lookalike_runtime.errors import Aborted

# Of a purge for readers of an older state.
_TRIES = 300
_SECONDS_BETWEEN_TRIES = 0.5


def prepare(collection: OpenCollection, record: Collection, build: Build, exact_below: int) -> Job:
    """Make the folder that a build is written into, and say what is to be built; raises ResourceExhausted where it would not fit."""
    require_room(collection, record, build.spec)
    folder = collection.build_folder(build.number).with_suffix(".partial")
    with refusing_when_full():
        folder.mkdir()
    return Job(
        database=collection.folder / ITEMS_FILE,
        folder=folder,
        space=record.space,
        engine=record.engine,
        dba=build.spec.dba or record.dba,
        trees=build.spec.trees,
        reduced_dim=min(build.spec.reduced_dim, record.space.dim),
        force_engine=build.spec.force_engine,
        recall_target=record.recall_target,
        exact_below=exact_below,
    )


def install(collection: OpenCollection, number: int, report: BuildReport, builds: BuildLog) -> None:
    """Let a finished build answer searches and remove those that are no longer kept; raises DamagedBuild, or ServiceError without room.

    An automatic build that would replace a pinned one is kept, but does not answer.
    """
    folder = collection.build_folder(number)
    dropped: set[int] = set()
    with refusing_when_full():
        folder.with_suffix(".partial").rename(folder)
        sync_folder(folder.parent)
        served = open_build(folder, number, collection.space)

    def commit() -> bool:
        installed = builds.install(collection.uid, number, report)
        dropped.update(installed.dropped)
        return installed.active

    collection.serve(served, commit)
    for each in dropped:
        # Searches at work keep what they have mapped until they end.
        shutil.rmtree(collection.build_folder(each))


def purge(collection: OpenCollection, number: int, builds: BuildLog, stopped: Callable[[], bool]) -> None:
    """Leave nothing of what was deleted before the build `number`, the only one there is, until it is done or `stopped`.

    Raises ResourceExhausted without room, Aborted where a reader keeps an older state for too long.
    """
    report = builds.get(collection.uid, number).report
    assert report is not None
    # Where a server's death came between noting and removing.
    for folder in (collection.folder / BUILDS_FOLDER).iterdir():
        if folder.name != str(number):
            shutil.rmtree(folder)
    collection.store.wipe(report.revision)
    for _ in range(_TRIES):
        if stopped() or collection.store.empty_log():
            return
        time.sleep(_SECONDS_BETWEEN_TRIES)
    raise Aborted("STORE_IN_USE", f"somebody has been reading an older state of the items for more than {_TRIES} seconds")


def remove_debris(collection: OpenCollection, number: int) -> None:
    """Remove what a build without a result has left."""
    folder = collection.build_folder(number)
    for each in (folder, folder.with_suffix(".partial")):
        shutil.rmtree(each, ignore_errors=True)


def activate(collection: OpenCollection, number: int, builds: BuildLog) -> Build:
    """Let an earlier build answer searches, pinned, with later writes applied; raises NotFound, or FailedPrecondition if it is not kept."""
    build = builds.get(collection.uid, number)
    if not build.kept:
        raise builds.not_kept(build)
    try:
        served = open_build(collection.build_folder(number), number, collection.space)
    except DamagedBuild:
        builds.discard(collection.uid, number)
        raise builds.not_kept(builds.get(collection.uid, number)) from None
    # The log has the last word: another build may have pushed this one out meanwhile.
    collection.serve(served, lambda: builds.activate(collection.uid, number))
    return builds.get(collection.uid, number)
