"""From a collection's making to its end, which somebody asks for or its time brings, each step told to those who watch its health."""

from __future__ import annotations

import asyncio
from asyncio import to_thread
from collections.abc import Awaitable, Callable
from typing import BinaryIO

import structlog

from lookalike_indexer.archives.reading import Archive
from lookalike_indexer.builds.queue import BuildQueue
from lookalike_indexer.catalog import Catalog
from lookalike_indexer.collections import Collections, Summary
from lookalike_indexer.records import Collection, Dba, DType, Engine, Space, now
from lookalike_runtime.errors import FailedPrecondition, NotFound

log = structlog.get_logger()

ReportHealth = Callable[[str, bool], Awaitable[None]]


class Lifecycle:
    """Makes and deletes collections; `report_health` hears of each, by its name, whether it is served."""

    def __init__(self, collections: Collections, catalog: Catalog, queue: BuildQueue, report_health: ReportHealth) -> None:
        self._collections = collections
        self._catalog = catalog
        self._queue = queue
        self._report_health = report_health

    async def announce(self) -> None:
        """Report all collections that are there."""
        for record in await to_thread(self._catalog.all):
            await self._report_health(record.name, True)

    async def create(
        self, name: str, space: Space, engine: Engine, dba: Dba, recall_target: float, expire_time: int | None, dtype: DType
    ) -> Summary:
        """Make an empty collection; raises AlreadyExists or ResourceExhausted."""
        summary = await to_thread(self._collections.create, name, space, engine, dba, recall_target, expire_time, dtype)
        await self._report_health(name, True)
        return summary

    async def restore(self, name: str, file: BinaryIO, expire_time: int | None) -> Summary:
        """Make a collection of the archive in `file`; raises AlreadyExists, ResourceExhausted, or InvalidArgument for a damaged archive."""
        archive = await to_thread(Archive, file)
        summary = await to_thread(self._collections.restore, name, archive, expire_time)
        await self._report_health(name, True)
        return summary

    async def delete(self, record: Collection, etag: str = "") -> None:
        """Delete a collection with all it holds; raises NotFound, Aborted, or FailedPrecondition while an alias points at it."""
        await to_thread(self._collections.remove, record, etag)
        await self._report_health(record.name, False)
        await self._queue.end_those_of(record.uid)
        await to_thread(self._collections.erase, record.uid)

    async def expire_forever(self, seconds: float) -> None:
        """Delete each collection whose time has come; one that an alias points at stays until the alias goes."""
        while True:
            await asyncio.sleep(seconds)
            for record in await to_thread(self._catalog.all):
                if record.expire_time is not None and record.expire_time <= now():
                    await self._expire(record)

    async def _expire(self, record: Collection) -> None:
        try:
            await self.delete(record)
            log.info("collection_expired", collection=record.name)
        except NotFound:
            pass
        except FailedPrecondition as error:
            log.warning("expiry_waits", collection=record.name, reason=error.message)
        except Exception:
            log.exception("expiry_failed", collection=record.name)
