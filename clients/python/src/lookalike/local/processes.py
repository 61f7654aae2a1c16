"""Server processes: started with free ports, watched until they answer, ended with patience."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from lookalike._client import AsyncClient
from lookalike._config import DEFAULT_PORTS, SERVICES, Servers
from lookalike._exceptions import LookalikeError, ServersNotStarted
from lookalike.local.record import StartedServer

START_SECONDS = 180.0
STOP_SECONDS = 40.0

_LOOK_AGAIN = 0.1
_LOG_LINES = 15


@dataclass
class ServerProcess:
    """A server that was started and may not answer yet."""

    service: str
    data: Path
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    announcement: Path

    def announced(self) -> StartedServer | None:
        """Return where it listens, once it does."""
        try:
            document = json.loads(self.announcement.read_text(encoding="utf-8"))
            started = psutil.Process(self.process.pid).create_time()
        except (OSError, ValueError, psutil.Error):
            return None
        return StartedServer(document["address"], self.process.pid, started, document["metrics_port"], str(self.log))

    def check(self) -> None:
        """Raise ServersNotStarted with the end of its log if it has ended; on a port that others may have taken it gets a second try."""
        status = self.process.poll()
        if status is not None and self.port:
            again = start(self.service, self.data, 0)
            self.process, self.port = again.process, again.port
        elif status is not None:
            raise ServersNotStarted(
                f"the {self.service} ended with status {status}; its log {self.log} ends with:\n{log_end(self.log)}",
                reason="SERVER_ENDED",
                metadata={"service": self.service},
            )


def check_installed() -> None:
    """Raise ServersNotStarted if the servers are not installed in this Python."""
    missing = [service for service in SERVICES if importlib.util.find_spec(f"lookalike_{service}") is None]
    if missing:
        raise ServersNotStarted(
            f"not installed in {sys.prefix}: {', '.join(missing)}. Install the servers: pip install 'lookalike[local]'",
            reason="NOT_INSTALLED",
        )


def start(service: str, data: Path, port: int) -> ServerProcess:
    """Start a server on `port`, 0 for any."""
    run = data / "run"
    run.mkdir(parents=True, exist_ok=True)
    announcement, log = run / f"{service}.json", run / f"{service}.log"
    announcement.unlink(missing_ok=True)
    flags = ["--data", str(data), "--port", str(port), "--metrics-port", "0", "--announce", str(announcement)]
    with log.open("wb") as output:
        # A session of its own: Ctrl-C in the terminal is for `up`, which ends its servers in order.
        process = subprocess.Popen(
            [sys.executable, "-m", f"lookalike_{service}", *flags],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return ServerProcess(service, data, port, process, log, announcement)


async def wait_until_serving(processes: Iterable[ServerProcess], told: Callable[[str], None]) -> dict[str, StartedServer]:
    """Return where the servers listen once each says that it serves.

    `told` is called with a sentence for each. Raises ServersNotStarted if one ends, or has not come up after three minutes.
    """
    try:
        async with asyncio.timeout(START_SECONDS):
            found = {each.service: await _serving(each, told) for each in processes}
    except TimeoutError:
        logs = ", ".join(str(each.log) for each in processes)
        raise ServersNotStarted(f"the servers did not come up in {START_SECONDS:.0f} s; see {logs}", reason="TOO_SLOW") from None
    return found


async def _serving(server: ServerProcess, told: Callable[[str], None]) -> StartedServer:
    while (started := server.announced()) is None:
        server.check()
        await asyncio.sleep(_LOOK_AGAIN)
    addresses: dict[str, Any] = {server.service: started.address}
    async with AsyncClient(Servers(**addresses), token="") as client:
        while not await _answers(client, server.service):
            server.check()
            await asyncio.sleep(_LOOK_AGAIN)
    told(f"{server.service} answers at {started.address}")
    return started


async def _answers(client: AsyncClient, service: str) -> bool:
    try:
        return await client.health(service)
    except LookalikeError:
        return False


def stop(processes: Iterable[psutil.Process]) -> None:
    """Ask processes to end, and end those that have not after their time to drain."""
    asked = list(processes)
    for process in asked:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, left = psutil.wait_procs(asked, timeout=STOP_SECONDS)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=STOP_SECONDS)


def log_end(log: Path) -> str:
    """Return the last lines of a log."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        return f"(it cannot be read: {error.strerror})"
    return "\n".join(lines[-_LOG_LINES:])


def usual_port(service: str) -> int:
    """Return the default port of `service` if nobody listens there, else 0 for any."""
    preferred = DEFAULT_PORTS[service]
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            return 0
    return preferred
