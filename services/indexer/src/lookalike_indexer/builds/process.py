"""The process of a build as the server sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from lookalike_indexer.builds.job import Job, Line
from lookalike_indexer.records import BuildReport, Failure, Progress
from lookalike_indexer.worker_process import start_worker

# A report holds all that was measured.
_MAX_LINE_BYTES = 16 << 20


class BuildFailed(Exception):
    """A build that came to nothing; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class BuildProcess:
    """One run of `lookalike_indexer.builds` as a worker."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, job: Job) -> BuildProcess:
        """Start the process; it ends when this one does."""
        return cls(await start_worker("lookalike_indexer.builds", job, _MAX_LINE_BYTES))

    async def result(self, tell: Callable[[Progress], Awaitable[None]]) -> BuildReport:
        """Pass progress to `tell` and return the report; raises BuildFailed."""
        report: BuildReport | None = None
        assert self._process.stdout is not None
        async for text in self._process.stdout:
            line = Line.model_validate_json(text)
            if line.progress:
                await tell(line.progress)
            if line.failure:
                await self._process.wait()
                raise BuildFailed(line.failure)
            report = line.report or report
        code = await self._process.wait()
        if report is None:
            message = (
                f"the build's process ended with status {code} and no result: the server's log holds what it said; start another build"
            )
            raise BuildFailed(Failure(code="UNKNOWN", reason="BUILD_CRASHED", message=message))
        return report

    def kill(self) -> None:
        """End the process now."""
        if self._process.returncode is None:
            self._process.kill()
