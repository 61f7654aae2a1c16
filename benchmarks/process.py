"""Real server processes, and channels to them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import grpc

from lookalike_protos.indexer.v1 import builds_pb2_grpc, collections_pb2_grpc, items_pb2_grpc, search_pb2_grpc

_START_SECONDS = 60.0
_MESSAGE_BYTES = 16 << 20
CHANNEL_OPTIONS = [("grpc.max_receive_message_length", _MESSAGE_BYTES), ("grpc.max_send_message_length", _MESSAGE_BYTES)]


def end_servers_when_ended() -> None:
    """Have SIGTERM end this process by way of its context managers, which end the servers."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


class ServerProcess:
    """One server of a service on a data folder."""

    def __init__(self, service: str, data: Path, environment: Mapping[str, str], *, beside: Path | None = None, **settings: str) -> None:
        """Start it, and wait until it listens; raises RuntimeError with the end of its log if it ends instead.

        Its log and its announcement lie in `beside`, or else next to `data`.
        """
        beside = beside or data.parent
        announcement, log = beside / f"{uuid.uuid4().hex}.json", beside / f"{service}.log"
        flags = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", value)]
        command = [sys.executable, "-m", f"lookalike_{service}", "--data", str(data), "--port", "0", "--announce", str(announcement)]
        self.data = data
        with log.open("ab") as stderr:
            self.process = subprocess.Popen([*command, *flags], stderr=stderr, env={**os.environ, **environment})
        self.address = _announced(announcement, self.process, log)
        self.channel = grpc.insecure_channel(self.address, CHANNEL_OPTIONS)

    def kill(self) -> None:
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.channel.close()

    def stop(self) -> int:
        """End it politely; returns its exit status."""
        self.channel.close()
        self.process.terminate()
        return self.process.wait(60)


class IndexerProcess(ServerProcess):
    """One indexer with one thread a matrix product, and its stubs."""

    def __init__(self, data: Path, *, beside: Path | None = None, **settings: str) -> None:
        """Start it; raises as `ServerProcess` does."""
        super().__init__("indexer", data, {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}, beside=beside, **settings)
        self.collections = collections_pb2_grpc.CollectionServiceStub(self.channel)
        self.items = items_pb2_grpc.ItemServiceStub(self.channel)
        self.searches = search_pb2_grpc.SearchServiceStub(self.channel)
        self.builds = builds_pb2_grpc.BuildServiceStub(self.channel)


@contextmanager
def running_indexer(data: Path, **settings: str) -> Iterator[IndexerProcess]:
    """Run an indexer that begins no builds by itself during the block."""
    server = IndexerProcess(data, beside=None, auto_build_share="0", **settings)
    try:
        yield server
    finally:
        server.stop()


def _announced(announcement: Path, process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while not announcement.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"the server did not start; its log ends with:\n{log.read_text(encoding='utf-8')[-2_000:]}")
        time.sleep(0.02)
    address: str = json.loads(announcement.read_text(encoding="utf-8"))["address"]
    announcement.unlink()
    return address
