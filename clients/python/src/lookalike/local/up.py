"""Bringing the three servers up, and down again."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from lookalike._config import SERVICES, servers_file
from lookalike._exceptions import ServersNotStarted
from lookalike.local.processes import ServerProcess, check_installed, log_end, start, stop, usual_port, wait_until_serving
from lookalike.local.record import StartedServer, forget, read_record, write_record

_LOOK_AGAIN = 0.3


@contextlib.contextmanager
def starting(data: Path) -> Iterator[None]:
    """Hold `data` while servers are started; raises ServersNotStarted if its servers are up, or somebody else starts them."""
    _make(data)
    try:
        with FileLock(data / "run" / "up.lock", timeout=0):
            refuse_second(data)
            yield
    except Timeout:
        raise ServersNotStarted(f"another `lookalike up` is starting servers in {data}: wait for it", reason="ALREADY_UP") from None


def _make(data: Path) -> None:
    try:
        (data / "run").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"the data folder {data} cannot be made: {error.strerror}; choose another with --data"
        raise ServersNotStarted(message, reason="NOT_WRITABLE") from None


def refuse_second(data: Path) -> None:
    """Raise ServersNotStarted if a server of `data` runs."""
    running = {name: server for name, server in read_record(data).items() if server.process()}
    if running:
        where = ", ".join(f"{name} at {server.address}" for name, server in running.items())
        raise ServersNotStarted(
            f"the servers of {data} are up already ({where}): use them, stop them with `lookalike down`, or choose another --data",
            reason="ALREADY_UP",
        )


async def bring_up(data: Path, told: Callable[[str], None]) -> tuple[list[ServerProcess], dict[str, StartedServer]]:
    """Start the three servers in `data` and note them once all answer. If one does not come up, none is left."""
    check_installed()
    processes: list[ServerProcess] = []
    try:
        with starting(data):
            for service in SERVICES:
                processes.append(start(service, data, usual_port(service)))  # noqa: PERF401 if one fails, the others must be known
            started = await wait_until_serving(processes, told)
            write_record(data, started)
    except BaseException:
        await asyncio.to_thread(stop, [psutil.Process(each.process.pid) for each in processes if each.process.poll() is None])
        raise
    return processes, started


async def stay(data: Path, processes: list[ServerProcess]) -> str:
    """Wait for Ctrl-C, SIGTERM, `lookalike down` or the end of a server, then stop all; returns which of them it was.

    Raises ServersNotStarted with the end of its log if a server ended by itself.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    try:
        while not stopping.is_set():
            ended = [each for each in processes if each.process.poll() is not None]
            if ended and not servers_file(data).exists():
                return "lookalike down"
            if ended:
                first = ended[0]
                raise ServersNotStarted(
                    f"the {first.service} ended with status {first.process.returncode}, so the others are stopped;"
                    f" its log {first.log} ends with:\n{log_end(first.log)}",
                    reason="SERVER_ENDED",
                )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), _LOOK_AGAIN)
        return "a signal"
    finally:
        await asyncio.to_thread(stop, [psutil.Process(each.process.pid) for each in processes if each.process.poll() is None])
        forget(data)


def bring_down(data: Path) -> dict[str, bool]:
    """Stop the servers that `up` started in `data`; returns by service whether it was still running."""
    record = read_record(data)
    running = {name: server.process() for name, server in record.items()}
    forget(data)
    stop(process for process in running.values() if process)
    return {name: process is not None for name, process in running.items()}
