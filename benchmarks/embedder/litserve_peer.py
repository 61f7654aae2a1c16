"""LitServe as a peer: its server with a setting, and clients that keep it busy."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.embedder.bare import ALLOCATORS, Setting
from lookalike_model.numerics import Precision

_START_SECONDS = 120
_BOUNDARY = "picture-boundary"


def settings(cores: int, batches: Sequence[int]) -> list[Setting]:
    """Return what is swept with the network as trained: workers × threads that use all cores, batch, allocator."""
    return [
        _setting(shape, batch, allocator=allocator, precision="fp32", compiled=False)
        for shape, batch, allocator in itertools.product(_shapes(cores), batches, ALLOCATORS)
    ]


def compiled_settings(cores: int, batches: Sequence[int], precision: Precision) -> list[Setting]:
    """Return what is swept with the network as our server compiles it: workers × threads that use all cores, batch."""
    return [
        _setting(shape, batch, allocator="kept", precision=precision, compiled=True)
        for shape, batch in itertools.product(_shapes(cores), batches)
    ]


def _shapes(cores: int) -> list[tuple[int, int]]:
    return sorted({(1, cores), (cores, 1)})


def _setting(shape: tuple[int, int], batch: int, **others: Any) -> Setting:
    workers, threads = shape
    return {"workers": workers, "torch_threads": threads, "batch": batch, "wait_seconds": 0.01, **others}


class LitServeProcess:
    """A running server."""

    def __init__(self, bundle: Path, setting: Setting, log: Path) -> None:
        """Start it, and wait until its workers are ready; raises RuntimeError with the end of its log if they are not."""
        self._port = _free_port()
        asked = json.dumps({**setting, "bundle": str(bundle), "port": self._port})
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        with log.open("wb") as output:
            command = [sys.executable, "-m", "benchmarks.embedder.litserve_app", asked]
            self._process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        deadline = time.monotonic() + _START_SECONDS
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"LitServe did not start; its log ends with:\n{log.read_text()[-2_000:]}")
            time.sleep(0.1)

    def throughput(self, pictures: Sequence[bytes], clients: int, warm_seconds: float, seconds: float) -> float:
        """Return images/s of `clients` that each send the next picture once they have the vector of the one before."""
        bodies = [_form(picture) for picture in pictures]
        headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
        answered = [0] * clients
        errors: list[str] = []
        ending = threading.Event()

        def run(number: int) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
            for at in itertools.count(number):
                if ending.is_set():
                    return
                connection.request("POST", "/predict", bodies[at % len(bodies)], headers)
                answer = connection.getresponse()
                text = answer.read()
                if answer.status != http.HTTPStatus.OK:
                    errors.append(text.decode(errors="replace"))
                    return
                answered[number] += 1

        threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        time.sleep(warm_seconds)
        before, started = sum(answered), time.perf_counter()
        time.sleep(seconds)
        rate = (sum(answered) - before) / (time.perf_counter() - started)
        ending.set()
        for thread in threads:
            thread.join(120)
        if errors:
            raise RuntimeError(f"LitServe answered: {errors[0][:500]}")
        return rate

    def pause(self) -> None:
        """Take no time from others: it polls its queues."""
        for process in self._tree():
            process.suspend()

    def resume(self) -> None:
        """Go on."""
        for process in self._tree():
            process.resume()

    def stop(self) -> None:
        """End it with its workers."""
        tree = self._tree()
        for process in tree:
            process.kill()
        psutil.wait_procs(tree, 30)
        self._process.wait()

    def _tree(self) -> list[psutil.Process]:
        if self._process.poll() is not None:
            return []
        root = psutil.Process(self._process.pid)
        return [*root.children(recursive=True), root]

    def _ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == http.HTTPStatus.OK
        except OSError:
            return False
        finally:
            connection.close()


def _form(picture: bytes) -> bytes:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="picture"; filename="p.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    return head.encode() + picture + f"\r\n--{_BOUNDARY}--\r\n".encode()


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
    return port
