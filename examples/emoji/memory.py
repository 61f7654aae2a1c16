"""The most memory that each process of the servers has held."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping

import psutil

PERIOD_S = 0.25


@contextlib.contextmanager
def peak_memory(servers: Mapping[str, int]) -> Iterator[dict[str, float]]:
    """Watch the processes `servers` (name to pid) and the modules that they start; yields the peaks in MiB, filled in as they happen.

    A child counts by itself, under its parent's name and the module that it runs.
    """
    peaks: dict[str, float] = {}
    stopping = threading.Event()

    def watch() -> None:
        while not stopping.wait(PERIOD_S):
            for name, pid in servers.items():
                _note(peaks, name, pid)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peaks
    finally:
        stopping.set()
        watcher.join()


def _note(peaks: dict[str, float], name: str, pid: int) -> None:
    with contextlib.suppress(psutil.Error):
        server = psutil.Process(pid)
        for process in (server, *server.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                if role := name if process.pid == pid else _role_of_child(name, process.cmdline()):
                    peaks[role] = max(peaks.get(role, 0.0), round(process.memory_info().rss / 2**20, 1))


def _role_of_child(parent: str, command: list[str]) -> str | None:
    if "-m" not in command[:-1]:
        return None
    return f"{parent}: {command[command.index('-m') + 1].rpartition('.')[2]}"
