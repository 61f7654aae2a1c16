"""The process that does a job's work: started in a session of its own, ended with all that it started."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, STDOUT, Process, create_subprocess_exec
from collections.abc import Sequence
from pathlib import Path

import psutil

from lookalike_trainer.outcome import LOG

WORKER_COMMAND = (sys.executable, "-m", "lookalike_trainer.worker")
PATIENCE_SECONDS = 10.0


class WorkerProcess:
    """A worker that runs `COMMAND FOLDER`."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, command: Sequence[str], folder: Path) -> "WorkerProcess":
        """Start it; what it prints goes to its folder's log."""
        with (folder / LOG).open("ab") as log:
            process = await create_subprocess_exec(*command, str(folder), stdin=DEVNULL, stdout=log, stderr=STDOUT, start_new_session=True)
        return cls(process)

    async def wait(self, seconds: float) -> int | None:
        """The exit code, negative for a signal, if it ends within this time."""
        try:
            exit_code = await asyncio.wait_for(self._process.wait(), seconds)
        except TimeoutError:
            return None
        # What it started and left behind.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        return exit_code

    async def end(self) -> int:
        """Ask it to end, and kill it if it takes too long; the exit code."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        exit_code = await self.wait(PATIENCE_SECONDS)
        while exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            exit_code = await self.wait(PATIENCE_SECONDS)
        return exit_code


def end_orphans(command: Sequence[str], folder: Path) -> None:
    """End the worker that a killed server left in `folder`, and what that worker started; it may write a checkpoint first.

    Its command line tells it, for it holds the folder of one job: so there is no moment at which a server can die between starting a
    worker and noting which it was, and no number of a process that may have come to mean another.
    """
    for process in psutil.process_iter(["cmdline"]):
        if process.info["cmdline"] == [*command, str(folder)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                family = [process, *process.children(recursive=True)]
                process.terminate()
                _, left = psutil.wait_procs(family, PATIENCE_SECONDS)
                for member in left:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        member.kill()
                psutil.wait_procs(left, PATIENCE_SECONDS)
