"""How a build that was written aside comes to answer searches: renamed, verified, swapped in; older ones let go."""

from __future__ import annotations

import shutil

from lookalike_indexer.build_log import BuildLog, not_kept
from lookalike_indexer.builds.job import Job
from lookalike_indexer.builds.manifest import DamagedBuild
from lookalike_indexer.collection import ITEMS_FILE, OpenCollection
from lookalike_indexer.database import refusing_when_full
from lookalike_indexer.records import Build, BuildReport, Collection
from lookalike_indexer.served_build import open_build
from lookalike_runtime.data_folder import sync_folder


def prepare(collection: OpenCollection, record: Collection, build: Build, exact_below: int) -> Job:
    """Make the folder that a build is written into, and say what is to be built."""
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
    """Let a finished build answer searches and remove those that are no longer kept; raises DamagedBuild, or ServiceError without room."""
    folder = collection.build_folder(number)
    dropped: set[int] = set()
    with refusing_when_full():
        folder.with_suffix(".partial").rename(folder)
        sync_folder(folder.parent)
        served = open_build(folder, number, collection.space)
    collection.serve(served, lambda: dropped.update(builds.succeed(collection.uid, number, report)))
    for each in dropped:
        # Searches at work keep what they have mapped until they end.
        shutil.rmtree(collection.build_folder(each))


def remove_debris(collection: OpenCollection, number: int) -> None:
    """Remove what a build without a result has left."""
    folder = collection.build_folder(number)
    for each in (folder, folder.with_suffix(".partial")):
        shutil.rmtree(each, ignore_errors=True)


def activate(collection: OpenCollection, number: int, builds: BuildLog) -> Build:
    """Let an earlier build answer searches, with later writes applied; raises NotFound, or FailedPrecondition if it is not kept."""
    build = builds.get(collection.uid, number)
    if not build.kept:
        raise not_kept(build)
    try:
        served = open_build(collection.build_folder(number), number, collection.space)
    except DamagedBuild:
        builds.discard(collection.uid, number)
        raise not_kept(builds.get(collection.uid, number)) from None
    # The log has the last word: another build may have pushed this one out meanwhile.
    collection.serve(served, lambda: builds.activate(collection.uid, number))
    return build
