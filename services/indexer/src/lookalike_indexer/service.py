"""The indexer, wired together."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import grpc

from lookalike_indexer.augmenter import Augmenter
from lookalike_indexer.build_log import BuildLog
from lookalike_indexer.builds.automatic import AutomaticBuilds
from lookalike_indexer.builds.queue import BuildQueue
from lookalike_indexer.catalog import Catalog, open_catalog
from lookalike_indexer.collections import Collections
from lookalike_indexer.lifecycle import Lifecycle
from lookalike_indexer.rank.rankings import Rankings
from lookalike_indexer.servicers.builds import BuildServicer
from lookalike_indexer.servicers.collections import CollectionServicer
from lookalike_indexer.servicers.items import ItemServicer
from lookalike_indexer.servicers.search import SearchServicer
from lookalike_indexer.servicers.snapshots import SnapshotServicer
from lookalike_indexer.servicers.translate import collection_name
from lookalike_indexer.settings import IndexerSettings
from lookalike_protos.indexer.v1 import (
    builds_pb2,
    builds_pb2_grpc,
    collections_pb2,
    collections_pb2_grpc,
    items_pb2,
    items_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
    snapshots_pb2,
    snapshots_pb2_grpc,
)
from lookalike_runtime.data_folder import DataFolder
from lookalike_runtime.server import Health

FORMAT = 1
CATALOG_FILE = "catalog.db"
COLLECTIONS_FOLDER = "collections"
SCRATCH_FOLDER = "scratch"
RANK_FOLDER = "rankings"


class IndexerService:
    """What `lookalike_runtime.server.main` runs."""

    def __init__(self, settings: IndexerSettings) -> None:
        """Take the data folder and remove what a crash has left; raises FailedPrecondition if another server holds it."""
        self._settings = settings
        self._folder = DataFolder(settings.data / "indexer", FORMAT)
        (self._folder.path / SCRATCH_FOLDER).mkdir(exist_ok=True)
        self._database = open_catalog(self._folder.path / CATALOG_FILE)
        self._catalog = Catalog(self._database)
        self._builds = BuildLog(self._database, settings.kept_builds)
        self._collections = Collections(self._folder.path / COLLECTIONS_FOLDER, self._catalog, self._builds)
        self._collections.sweep()
        self._queue = BuildQueue(self._collections, self._catalog, self._builds, settings.exact_below)
        self._augmenter = Augmenter(self._collections, settings.augment_seconds)
        self._rankings = Rankings(self._folder.path / RANK_FOLDER)
        self._automatic = AutomaticBuilds(
            self._collections,
            self._catalog,
            self._builds,
            self._queue,
            share=settings.auto_build_share,
            least_items=settings.exact_below,
            seconds=settings.auto_build_seconds,
        )
        self._lifecycle = Lifecycle(self._collections, self._catalog, self._queue, self._report_health)
        self._health: Health | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def add_to(self, server: grpc.aio.Server) -> list[str]:
        collection_servicer = CollectionServicer(self._catalog, self._collections, self._lifecycle)
        collections_pb2_grpc.add_CollectionServiceServicer_to_server(collection_servicer, server)
        items_pb2_grpc.add_ItemServiceServicer_to_server(ItemServicer(self._collections), server)
        search_pb2_grpc.add_SearchServiceServicer_to_server(SearchServicer(self._collections, self._rankings), server)
        build_servicer = BuildServicer(self._catalog, self._collections, self._builds, self._queue)
        builds_pb2_grpc.add_BuildServiceServicer_to_server(build_servicer, server)
        snapshot_servicer = SnapshotServicer(self._catalog, self._collections, self._lifecycle, self._folder.path / SCRATCH_FOLDER)
        snapshots_pb2_grpc.add_SnapshotServiceServicer_to_server(snapshot_servicer, server)
        files = (collections_pb2, items_pb2, search_pb2, builds_pb2, snapshots_pb2)
        return [service.full_name for file in files for service in file.DESCRIPTOR.services_by_name.values()]

    async def start(self, health: Health) -> None:
        self._health = health
        # What asyncio.to_thread runs on: as many calls at once as the settings say, the others wait their turn.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(self._settings.threads, "indexer"))
        await self._lifecycle.announce()
        await self._queue.start()
        self._augmenter.start()
        self._tasks.append(asyncio.create_task(self._lifecycle.expire_forever(self._settings.expiry_seconds)))
        if self._settings.auto_build_share:
            self._tasks.append(asyncio.create_task(self._automatic.look_forever()))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await self._queue.stop()
        await asyncio.to_thread(self._augmenter.stop)
        self._collections.close()
        self._database.close()
        self._folder.close()

    async def _report_health(self, collection: str, serving: bool) -> None:
        if self._health:
            await self._health.set(collection_name(collection), serving=serving)
