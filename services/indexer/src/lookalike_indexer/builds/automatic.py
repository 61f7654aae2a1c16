"""Builds that nobody asks for: when enough of a collection has changed, and nothing speaks against it."""

from __future__ import annotations

import asyncio
import itertools
from asyncio import to_thread
from contextlib import suppress
from dataclasses import dataclass

import structlog

from lookalike_indexer.build_log import BuildLog
from lookalike_indexer.builds.queue import BuildQueue
from lookalike_indexer.catalog import Catalog
from lookalike_indexer.collections import Collections
from lookalike_indexer.records import ENDED, Build, BuildSpec, Collection, now
from lookalike_runtime.errors import FailedPrecondition, NotFound, ServiceError

# Looks for which a build that is due waits for a pause in the writes, and after a failure; the latter doubles with each further one.
_MOST_LOOKS = 12
_LONGEST_SECONDS = 3600.0
_MOST_FAILURES = 16

log = structlog.get_logger()


@dataclass
class _Seen:
    """A collection at the last look: revision (None while it is not open) and active build, and for how many looks a build has been due."""

    state: tuple[int | None, int | None] = (-1, None)
    due_looks: int = 0
    left_looks: int = 0


class AutomaticBuilds:
    """Looks at all collections again and again. A build begins once more than `share` of a collection's items were written or deleted since
    its active build and writes pause; in none of fewer than `least_items` items, nor where the active build is pinned.
    """

    def __init__(
        self,
        collections: Collections,
        catalog: Catalog,
        builds: BuildLog,
        queue: BuildQueue,
        *,
        share: float,
        least_items: int,
        seconds: float,
    ) -> None:
        self._collections = collections
        self._catalog = catalog
        self._builds = builds
        self._queue = queue
        self._share = share
        self._least_items = max(1, least_items)
        self._seconds = seconds
        self._seen: dict[str, _Seen] = {}

    async def look_forever(self) -> None:
        """Begin builds where they are due; nothing that fails ends this."""
        while True:
            records = await to_thread(self._catalog.all)
            self._seen = {record.uid: self._seen.get(record.uid, _Seen()) for record in records}
            for record in records:
                # Collections go, and builds are asked for, meanwhile.
                with suppress(NotFound, FailedPrecondition):
                    await self._look_safely(record)
            await asyncio.sleep(self._seconds)

    async def _look_safely(self, record: Collection) -> None:
        try:
            await self._look(record, self._seen[record.uid])
        except (NotFound, FailedPrecondition):
            raise
        except ServiceError as error:
            self._seen[record.uid].left_looks = _MOST_LOOKS
            log.warning("automatic_build_refused", collection=record.name, reason=error.reason, error=error.message)
        except Exception:
            if await to_thread(self._catalog.by_uid, record.uid) is None:
                return
            self._seen[record.uid].left_looks = _MOST_LOOKS
            log.exception("automatic_build_lost", collection=record.name)

    async def _look(self, record: Collection, seen: _Seen) -> None:
        state = (self._collections.revision(record.uid), record.active_build)
        paused, seen.state = state == seen.state, state
        seen.left_looks = max(0, seen.left_looks - 1)
        # What was not due and has not changed since is not due now.
        if paused and not seen.due_looks:
            return
        drift = await to_thread(self._collections.drift, record)
        due = drift.item_count >= self._least_items and drift.changed > self._share * drift.item_count
        seen.due_looks = seen.due_looks + 1 if due else 0
        if due and not record.pinned and not seen.left_looks and (paused or seen.due_looks > _MOST_LOOKS):
            await self._begin(record)

    async def _begin(self, record: Collection) -> None:
        builds = await to_thread(self._builds.page, record.uid, None, _MOST_FAILURES)
        if (builds and builds[0].state not in ENDED) or self._must_wait(builds):
            return
        # Made as the build that it replaces was asked for.
        spec = (await to_thread(self._builds.get, record.uid, record.active_build)).spec if record.active_build else BuildSpec()
        collection = await to_thread(self._collections.open, record)
        # Refused where a build that ended since the record was read has made this one needless: the next look tells.
        build = await self._queue.begin_automatic(collection, record, spec.model_copy(update={"purge": False}))
        log.info("automatic_build", collection=record.name, build=build.number)

    def _must_wait(self, builds: list[Build]) -> bool:
        """Tell whether the newest builds came to nothing too shortly ago."""
        vain = list(itertools.takewhile(lambda build: build.state in ("FAILED", "CANCELLED"), builds))
        if not vain:
            return False
        wait = min(self._seconds * _MOST_LOOKS * 2.0 ** (len(vain) - 1), _LONGEST_SECONDS)
        return now() < (vain[0].end_time or 0) + int(wait * 1e6)
