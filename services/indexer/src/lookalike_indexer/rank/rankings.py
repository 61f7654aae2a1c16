"""Rankings, one at a time: refused if they cannot be, given a folder and a process, and cleared away however they end."""

from __future__ import annotations

import shutil
import uuid
from asyncio import to_thread
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lookalike_indexer.collection import ITEMS_FILE, OpenCollection, require_space
from lookalike_indexer.database import refusing_when_full
from lookalike_indexer.rank.job import Job, Side
from lookalike_indexer.rank.process import Part, RankProcess
from lookalike_indexer.rank.stages import room_needed
from lookalike_indexer.records import Dba
from lookalike_runtime.errors import FailedPrecondition, ResourceExhausted

_RETRY_SECONDS = 5.0


@dataclass(frozen=True)
class Task:
    """What to rank for what; `exclude_same_id` leaves the reference with the query's own id out."""

    queries: OpenCollection
    references: OpenCollection
    k: int
    query_dba: Dba
    reference_dba: Dba
    exclude_same_id: bool


class Rankings:
    """Makes rankings in processes of their own, with their files under one folder."""

    def __init__(self, folder: Path) -> None:
        """Remove what an earlier server has left in `folder`."""
        self._folder = folder
        self._taken = False
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()

    async def rank(self, task: Task) -> AsyncGenerator[Part, None]:
        """Yield the start, the reference ids, then rows with progress between, from one state of either side.

        Raises FailedPrecondition if the spaces differ or a side is empty, ResourceExhausted while another ranking is under way or without
        room on the disk, Internal if the process crashes.
        """
        require_space(task.queries.space, task.references.space, whose=f"the query collection {task.queries.name!r}")
        with self._turn():
            job = await to_thread(self._prepare, task)
            try:
                process = await RankProcess.start(job)
                try:
                    async with aclosing(process.parts()) as parts:
                        async for part in parts:
                            yield part
                finally:
                    await process.end()
            finally:
                await to_thread(shutil.rmtree, job.folder, ignore_errors=True)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if self._taken:
            raise ResourceExhausted("RANK_RUNNING", "another ranking is under way: try again later", retry_after=_RETRY_SECONDS)
        self._taken = True
        try:
            yield
        finally:
            self._taken = False

    def _prepare(self, task: Task) -> Job:
        counts = [_count(task.queries), _count(task.references)]
        folder = self._folder / uuid.uuid4().hex
        job = Job(
            queries=Side(database=task.queries.folder / ITEMS_FILE, dba=task.query_dba),
            references=Side(database=task.references.folder / ITEMS_FILE, dba=task.reference_dba),
            folder=folder,
            dim=task.queries.space.dim,
            k=task.k,
            exclude_same_id=task.exclude_same_id,
        )
        needed, free = room_needed(job, *counts), shutil.disk_usage(self._folder).free
        if free < needed:
            message = f"the ranking needs {needed:,} bytes for its files, the disk has {free:,}: free some room, then try again"
            raise ResourceExhausted("DISK_FULL", message)
        with refusing_when_full():
            folder.mkdir()
        return job


def _count(collection: OpenCollection) -> int:
    count = collection.view.item_count
    if count == 0:
        raise FailedPrecondition("COLLECTION_EMPTY", f"collection {collection.name!r} has no items: upsert some first")
    return count
