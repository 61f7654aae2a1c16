"""`run/servers.json` in the data folder: which servers `lookalike up` started, and whether they still run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from lookalike._config import last_up_file, servers_file
from lookalike._files import written_whole

# Start times are told in ticks of the system's clock, and that clock may be set.
_SAME_START_SECONDS = 2.0


@dataclass(frozen=True)
class StartedServer:
    """A server process; `start_time` (seconds since the epoch) tells it from a later process with the same pid."""

    address: str
    pid: int
    start_time: float
    metrics_port: int | None
    log: str

    def process(self) -> psutil.Process | None:
        """Return the process if it still runs and is the one that was started."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.start_time) < _SAME_START_SECONDS
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


def write_record(data: Path, servers: Mapping[str, StartedServer]) -> None:
    """Note `servers` in `data`, and `data` as the folder of the last `up`."""
    with written_whole(servers_file(data)) as file:
        json.dump({"data": str(data), "servers": {name: asdict(server) for name, server in servers.items()}}, file, indent=2)
    with written_whole(last_up_file()) as file:
        file.write(f"{data}\n")


def read_record(data: Path) -> dict[str, StartedServer]:
    """Return the servers noted in `data`; empty if there are none."""
    try:
        servers = json.loads(servers_file(data).read_text(encoding="utf-8"))["servers"]
        return {name: StartedServer(**server) for name, server in servers.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def forget(data: Path) -> None:
    """Remove the note in `data`."""
    servers_file(data).unlink(missing_ok=True)
