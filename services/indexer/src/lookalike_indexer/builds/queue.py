"""Builds wait for their turn, one runs at a time, and whoever watches is told."""

from __future__ import annotations

import asyncio
from asyncio import to_thread
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import structlog

from lookalike_indexer.build_log import BuildLog
from lookalike_indexer.builds.installation import activate, install, prepare, purge, remove_debris
from lookalike_indexer.builds.manifest import DamagedBuild
from lookalike_indexer.builds.process import BuildFailed, BuildProcess
from lookalike_indexer.builds.room import require_room
from lookalike_indexer.catalog import Catalog
from lookalike_indexer.collection import OpenCollection
from lookalike_indexer.collections import Collections
from lookalike_indexer.failures import failure_of
from lookalike_indexer.records import ENDED, Build, BuildSpec, Collection, Event, Failure, Progress
from lookalike_runtime.errors import FailedPrecondition, NotFound, ResourceExhausted, ServiceError

_SECONDS_BETWEEN_TRIES = 2.0
INTERRUPTED = Failure(
    code="ABORTED",
    reason="BUILD_INTERRUPTED",
    message="the server ended while the build was under way: nothing of it is left, searches go on as before it; start another build",
)

log = structlog.get_logger()

Key = tuple[str, int]


class BuildQueue:
    """Makes builds in processes of their own, on the event loop that `start` runs on."""

    def __init__(self, collections: Collections, catalog: Catalog, builds: BuildLog, exact_below: int) -> None:
        self._collections = collections
        self._catalog = catalog
        self._builds = builds
        self._exact_below = exact_below
        self._waiting: asyncio.Queue[Key] = asyncio.Queue()
        self._running: Key | None = None
        self._process: BuildProcess | None = None
        self._unwanted: set[Key] = set()
        self._changed = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._stopping = False

    async def start(self) -> None:
        """Note which builds an earlier server left unfinished, queue those that had not begun or purge, and begin."""
        for uid, build in await to_thread(self._builds.under_way):
            if build.state == "RUNNING" and not build.kept:
                await to_thread(self._builds.fail, uid, build.number, INTERRUPTED)
            else:
                self._waiting.put_nowait((uid, build.number))
        self._worker = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """End the build that runs; the next server notes that it was interrupted."""
        self._stopping = True
        self._kill()
        while self._running:
            await self._news()
        if self._worker:
            self._worker.cancel()
            with suppress(asyncio.CancelledError):
                await self._worker

    async def create(self, collection: OpenCollection, spec: BuildSpec, request_id: str) -> Build:
        """Queue a build, or return the one that `request_id` made; an automatic one that is under way makes way for it.

        Raises AlreadyExists, FailedPrecondition, or ResourceExhausted where it would not fit on the disk.
        """
        if not await to_thread(self._builds.knows, collection.uid, request_id):
            await self._make_way(collection.uid)
            await to_thread(self._refuse_impossible, collection, spec)
        build, new = await to_thread(self._builds.add, collection.uid, spec, request_id)
        if new:
            self._waiting.put_nowait((collection.uid, build.number))
        return build

    async def begin_automatic(self, collection: OpenCollection, seen: Collection, spec: BuildSpec) -> Build:
        """Queue a build that nobody asked for, if the collection is as it was `seen`.

        Raises FailedPrecondition, NotFound or ResourceExhausted.
        """
        await to_thread(self._refuse_impossible, collection, spec)
        build = await to_thread(self._builds.add_automatic, seen, spec)
        self._waiting.put_nowait((collection.uid, build.number))
        return build

    async def _make_way(self, uid: str) -> None:
        for build in await to_thread(self._builds.page, uid, None, 1):
            if build.automatic and build.state not in ENDED:
                await self.cancel(uid, build.number)

    def _refuse_impossible(self, collection: OpenCollection, spec: BuildSpec) -> None:
        if collection.view.item_count == 0:
            raise FailedPrecondition("COLLECTION_EMPTY", f"collection {collection.name!r} has no items: upsert some first")
        require_room(collection, self._catalog.find(collection.name), spec)

    async def cancel(self, uid: str, number: int) -> Build:
        """End a build, and return it when it has ended; one that has ended stays as it is. Raises NotFound."""
        key = (uid, number)
        await to_thread(self._builds.get, uid, number)
        self._unwanted.add(key)
        if key != self._running:
            await to_thread(self._builds.cancel, uid, number)
            self._tell_watchers()
        # It may have begun in between.
        while key == self._running:
            self._kill()
            await self._news()
        self._unwanted.discard(key)
        return await to_thread(self._builds.get, uid, number)

    async def end_those_of(self, uid: str) -> None:
        """End the build of a collection that is no more."""
        while self._running and self._running[0] == uid:
            self._unwanted.add(self._running)
            self._kill()
            await self._news()
        self._unwanted = {key for key in self._unwanted if key[0] != uid}
        self._tell_watchers()

    async def activate(self, collection: OpenCollection, number: int) -> Build:
        """Let an earlier build answer searches; raises NotFound or FailedPrecondition."""
        return await to_thread(activate, collection, number, self._builds)

    async def watch(self, uid: str, number: int, after: int) -> AsyncIterator[Event]:
        """Yield a build's events after a number until its last; raises NotFound."""
        while True:
            changed = self._changed
            events, ended = await to_thread(self._builds.events, uid, number, after)
            for event in events:
                yield event
                after = event.sequence
            if ended:
                return
            await changed.wait()

    async def _work(self) -> None:
        while not self._stopping:
            self._running = await self._waiting.get()
            try:
                await self._make(*self._running)
            except NotFound:  # its collection is no more
                pass
            except Exception:
                log.exception("build_lost", uid=self._running[0], build=self._running[1])
            finally:
                self._running = self._process = None
                self._tell_watchers()

    async def _make(self, uid: str, number: int) -> None:
        record = await to_thread(self._catalog.by_uid, uid)
        if record is None:
            return
        collection = await to_thread(self._collections.open, record)
        build = await to_thread(self._builds.get, uid, number)
        if build.state == "RUNNING":
            await self._resume(collection, build)
        elif await to_thread(self._builds.start, uid, number):
            self._tell_watchers()
            await self._run(collection, record, build)

    async def _resume(self, collection: OpenCollection, build: Build) -> None:
        """Go on with a purge that an earlier server's end has interrupted; that of a damaged build comes to nothing."""
        if build.kept:
            await self._purge(collection, build.number)
        else:
            await self._note(self._builds.fail, collection.uid, build.number, INTERRUPTED)

    async def _run(self, collection: OpenCollection, record: Collection, build: Build) -> None:
        uid, number = collection.uid, build.number
        try:
            job = await to_thread(prepare, collection, record, build, self._exact_below)
            self._process = await BuildProcess.start(job)
            if (uid, number) in self._unwanted or self._stopping:
                self._kill()
            report = await self._process.result(lambda progress: self._advance(uid, number, progress))
            await to_thread(install, collection, number, report, self._builds)
        except BuildFailed as error:
            await self._end(collection, number, error.failure)
        except DamagedBuild as error:
            await self._end(collection, number, Failure(code="DATA_LOSS", reason="BUILD_DAMAGED", message=f"{error}; start another build"))
        except ServiceError as error:
            await self._end(collection, number, failure_of(error))
        except Exception as error:
            # A mistake of ours ends the build, not the queue.
            log.exception("build_broke", collection=collection.name, build=number)
            message = f"{type(error).__name__}: the server's log holds the details; start another build"
            await self._end(collection, number, Failure(code="INTERNAL", reason="BUILD_BROKE", message=message))
        else:
            log.info("build_serves", collection=collection.name, build=number, engine=report.engine, reason=report.reason)
            if build.spec.purge:
                self._tell_watchers()
                await self._purge(collection, number)

    async def _purge(self, collection: OpenCollection, number: int) -> None:
        """Wipe the store; the build serves already. Where the server ends meanwhile, the next one begins anew."""
        try:
            await to_thread(purge, collection, number, self._builds, lambda: self._stopping)
            if not self._stopping:
                await self._note(self._builds.succeed, collection.uid, number)
        except ServiceError as error:
            message = f"the build serves and older ones are deleted, but the store could not be wiped: {error.message}; purge again"
            log.warning("purge_failed", collection=collection.name, build=number, reason=error.reason, error=error.message)
            await self._note(self._builds.fail, collection.uid, number, Failure(code=error.code, reason=error.reason, message=message))

    async def _end(self, collection: OpenCollection, number: int, failure: Failure) -> None:
        await to_thread(remove_debris, collection, number)
        if (collection.uid, number) in self._unwanted:
            await self._note(self._builds.cancel, collection.uid, number)
        elif not self._stopping:
            log.warning("build_failed", collection=collection.name, build=number, reason=failure.reason, error=failure.message)
            await self._note(self._builds.fail, collection.uid, number, failure)

    async def _note(self, end: Callable[..., Build], *values: str | int | Failure) -> None:
        """Note the end of a build; on a full disk, again and again until there is room."""
        while not self._stopping:
            try:
                await to_thread(end, *values)
                return
            except NotFound:  # its collection is no more
                return
            except ResourceExhausted:
                await asyncio.sleep(_SECONDS_BETWEEN_TRIES)

    async def _advance(self, uid: str, number: int, progress: Progress) -> None:
        # Progress that cannot be noted, as on a full disk, ends no build.
        with suppress(ServiceError):
            await to_thread(self._builds.advance, uid, number, progress)
        self._tell_watchers()

    def _kill(self) -> None:
        if self._process:
            self._process.kill()

    def _tell_watchers(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _news(self) -> None:
        await self._changed.wait()
