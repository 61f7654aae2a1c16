"""A real indexer process, and channels to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import grpc

from lookalike_protos.indexer.v1 import builds_pb2_grpc, collections_pb2_grpc, items_pb2_grpc, search_pb2_grpc

_START_SECONDS = 60.0
_MESSAGE_BYTES = 16 << 20


class IndexerProcess:
    """One server on a data folder, with one thread a matrix product."""

    def __init__(self, data: Path, *, beside: Path | None = None, **settings: str) -> None:
        """Start it, and wait until it listens; raises RuntimeError with the end of its log if it ends instead.

        Its log and its announcement lie in `beside`, or else next to `data`.
        """
        beside = beside or data.parent
        announcement, log = beside / f"{uuid.uuid4().hex}.json", beside / "indexer.log"
        flags = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", value)]
        command = [sys.executable, "-m", "lookalike_indexer", "--data", str(data), "--port", "0", "--announce", str(announcement), *flags]
        self.data = data
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(command, stderr=stderr, env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
        self.address = _announced(announcement, self.process, log)
        limits = [("grpc.max_receive_message_length", _MESSAGE_BYTES), ("grpc.max_send_message_length", _MESSAGE_BYTES)]
        self.channel = grpc.insecure_channel(self.address, limits)
        self.collections = collections_pb2_grpc.CollectionServiceStub(self.channel)
        self.items = items_pb2_grpc.ItemServiceStub(self.channel)
        self.searches = search_pb2_grpc.SearchServiceStub(self.channel)
        self.builds = builds_pb2_grpc.BuildServiceStub(self.channel)

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


def _announced(announcement: Path, process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while not announcement.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"the indexer did not start; its log ends with:\n{log.read_text(encoding='utf-8')[-2_000:]}")
        time.sleep(0.02)
    address: str = json.loads(announcement.read_text(encoding="utf-8"))["address"]
    announcement.unlink()
    return address
