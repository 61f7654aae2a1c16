"""A real server process around a small service: what every server does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from lookalike_protos.indexer.v1 import builds_pb2, builds_pb2_grpc

SERVICE = """
import asyncio, sys
from lookalike_protos.indexer.v1 import builds_pb2, builds_pb2_grpc
from lookalike_protos.types.v1 import operations_pb2
from lookalike_runtime.errors import NotFound
from lookalike_runtime.server import main
from lookalike_runtime.settings import ServerSettings

class Servicer(builds_pb2_grpc.BuildServiceServicer):
    async def GetBuild(self, request, context):
        if request.name == "slow":
            await asyncio.sleep(1.5)
            return builds_pb2.Build(name="slow")
        if request.name == "bug":
            raise ZeroDivisionError("secret")
        raise NotFound("BUILD_NOT_FOUND", "no such build")
    async def WatchBuild(self, request, context):
        yield operations_pb2.Event(sequence=1)
        await asyncio.sleep(3600)

class Service:
    def add_to(self, server):
        builds_pb2_grpc.add_BuildServiceServicer_to_server(Servicer(), server)
        return ["lookalike.indexer.v1.BuildService"]
    async def start(self, health): ...
    async def stop(self): print("files closed", flush=True)

sys.exit(main("indexer", ServerSettings, lambda settings: Service()))
"""


class Running:
    def __init__(self, process: subprocess.Popen[str], announced: dict[str, Any]) -> None:
        self.process = process
        self.announced = announced
        self.channel = grpc.insecure_channel(announced["address"])
        self.builds = builds_pb2_grpc.BuildServiceStub(self.channel)

    def stop(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=30)
        return self.process.returncode, out


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []
    script = tmp_path / "service.py"
    script.write_text(SERVICE)

    def run(*flags: str) -> Running:
        announce = tmp_path / f"{len(started)}.json"
        command = [sys.executable, str(script), "--announce", str(announce), *flags]
        with (tmp_path / "log").open("w") as log:
            started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True))
        deadline = time.monotonic() + 60
        while not announce.exists():
            assert started[-1].poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return Running(started[-1], json.loads(announce.read_text()))

    yield run
    for process in started:
        process.kill()
        process.wait()


def test_a_server_answers_health_reflection_and_metrics(start: Start) -> None:
    server = start("--metrics-port", "0")
    health = health_pb2_grpc.HealthStub(server.channel)
    assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = reflection_pb2_grpc.ServerReflectionStub(server.channel).ServerReflectionInfo(iter([request]))
    assert "lookalike.indexer.v1.BuildService" in {s.name for s in answer.list_services_response.service}
    with urllib.request.urlopen(f"http://127.0.0.1:{server.announced['metrics_port']}/metrics") as page:
        assert b"lookalike_calls_total" in page.read()


def test_an_error_arrives_with_its_reason(start: Start) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        start().builds.GetBuild(builds_pb2.GetBuildRequest(name="x"))
    info = ErrorInfo()
    status = rpc_status.from_call(caught.value)
    assert status is not None
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("BUILD_NOT_FOUND", "lookalike")


def test_a_bug_is_logged_and_its_words_stay_inside(start: Start, tmp_path: Path) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        start().builds.GetBuild(builds_pb2.GetBuildRequest(name="bug"))
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert "secret" not in str(caught.value.details())
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines() if line.startswith("{")]
    assert any("secret" in line.get("exception", "") for line in lines)


def test_sigterm_lets_calls_end_and_closes_files(start: Start) -> None:
    server = start()
    slow = server.builds.GetBuild.future(builds_pb2.GetBuildRequest(name="slow"))
    time.sleep(0.5)
    status, out = server.stop()
    assert slow.result(timeout=10).name == "slow"
    assert (status, out.strip()) == (0, "files closed")


def test_sigterm_ends_watches_at_once_so_that_they_reconnect(start: Start) -> None:
    server = start("--drain-seconds", "25")
    watch = server.builds.WatchBuild(builds_pb2.WatchBuildRequest(name="x"))
    assert next(watch).sequence == 1
    os.kill(server.process.pid, signal.SIGTERM)
    with pytest.raises(grpc.RpcError) as caught:
        next(watch)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "stopping" in str(caught.value.details())
    assert server.process.wait(timeout=20) == 0


def test_a_taken_port_is_said_in_one_line(start: Start, tmp_path: Path) -> None:
    port = start().announced["address"].rpartition(":")[2]
    command = [sys.executable, str(tmp_path / "service.py"), "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "port is in use" in done.stderr
    assert "Traceback" not in done.stderr
