"""The process of a ranking as the server sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import numpy as np

from lookalike_indexer.failures import error_of
from lookalike_indexer.rank.job import Job, Line, RowsHead, Start
from lookalike_indexer.records import Progress
from lookalike_indexer.worker_process import start_worker
from lookalike_retrieval import TopK
from lookalike_runtime.errors import Internal

_MAX_LINE_BYTES = 8 << 20  # 2,048 ids of 512 bytes, each of which JSON may write with six


@dataclass(frozen=True)
class ReferenceIds:
    """The next reference ids, ordered bytewise over all parts."""

    ids: list[str]


@dataclass(frozen=True)
class RankedRows:
    """The next rows, ordered by query id bytewise: `indices` are places among all reference ids, best first."""

    query_ids: list[str]
    top: TopK


Part = Start | ReferenceIds | RankedRows | Progress


class RankProcess:
    """One run of `lookalike_indexer.rank` as a worker."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        assert process.stdout is not None
        self._out = process.stdout

    @classmethod
    async def start(cls, job: Job) -> RankProcess:
        """Start the process; it ends when this one does."""
        return cls(await start_worker("lookalike_indexer.rank", job, _MAX_LINE_BYTES))

    async def parts(self) -> AsyncGenerator[Part, None]:
        """Yield the start, the reference ids, then rows with progress between; raises ServiceError if it comes to nothing.

        The process waits while nobody takes what it has.
        """
        while text := await self._out.readline():
            line = Line.model_validate_json(text)
            if line.end:
                return
            if line.failure:
                raise error_of(line.failure)
            if line.rows:
                yield await self._rows(line.rows)
            elif line.reference_ids:
                yield ReferenceIds(line.reference_ids)
            elif part := line.start or line.progress:
                yield part
        raise await self._crashed()

    async def end(self) -> None:
        """End the process now, if it has not ended, and wait for that."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def _rows(self, head: RowsHead) -> RankedRows:
        shape = (len(head.query_ids), head.width)
        size = 4 * shape[0] * shape[1]
        try:
            data = await self._out.readexactly(2 * size)
        except asyncio.IncompleteReadError:
            raise await self._crashed() from None
        indices, scores = np.frombuffer(data[:size], "<u4"), np.frombuffer(data[size:], "<f4")
        return RankedRows(head.query_ids, TopK(indices.reshape(shape), scores.reshape(shape)))

    async def _crashed(self) -> Internal:
        code = await self._process.wait()
        how = f"was ended by signal {-code}; the machine may be out of memory" if code < 0 else f"ended with status {code}"
        return Internal("RANK_CRASHED", f"the ranking's process {how}: the server's log holds what it said; try again")
