"""A server's life: settings, listen, announce, serve, drain."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import grpc
import structlog
from grpc_channelz.v1 import channelz
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from lookalike_runtime.auth import Authoriser
from lookalike_runtime.calls import CallInterceptor
from lookalike_runtime.errors import FailedPrecondition, ServiceError
from lookalike_runtime.logs import configure_logs
from lookalike_runtime.settings import ServerSettings, load_settings

log = structlog.get_logger()

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
KEEPALIVE_MS = 30_000
CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A client may ping as often as ours does, and no less kindly.
    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
    ("grpc.keepalive_permit_without_calls", 1),
    # New replicas get work because old connections end.
    ("grpc.max_connection_age_ms", 600_000),
    ("grpc.max_connection_age_grace_ms", 3_600_000),
    # gRPC itself cancels calls, with no status of ours, once so many have arrived and none of our code has seen them.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
    # Two servers on one port would share its calls silently.
    ("grpc.so_reuseport", 0),
]


class Health:
    """What the server says of itself and of each model or collection."""

    def __init__(self, servicer: health.aio.HealthServicer) -> None:
        self._servicer = servicer

    async def set(self, name: str, *, serving: bool) -> None:
        """Report `name` (empty: the server as a whole) as SERVING or NOT_SERVING."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        await self._servicer.set(name, status)

    async def drain(self) -> None:
        """Report everything as NOT_SERVING from now on."""
        await self._servicer.enter_graceful_shutdown()


class Service(Protocol):
    """What a server runs. Made before the server listens; raises ServiceError if it cannot be."""

    def add_to(self, server: grpc.aio.Server) -> list[str]:
        """Add the servicers to `server`; return the full names of their services."""
        ...

    async def start(self, health: Health) -> None:
        """Start background work; runs once the server listens."""
        ...

    async def stop(self) -> None:
        """End background work and close files; runs after the last call has ended."""
        ...


S = TypeVar("S", bound=ServerSettings)


def main(name: str, settings_type: type[S], create: Callable[[S], Service], argv: list[str] | None = None) -> int:
    """Run the server `name` until SIGTERM or SIGINT; returns the exit status. What stops it from starting is said in one line."""
    try:
        settings = load_settings(settings_type, name, sys.argv[1:] if argv is None else argv)
        configure_logs(name, settings.log_level)
        asyncio.run(_serve(name, settings, create(settings)))
    except ServiceError as error:
        print(f"lookalike {name}: {error.message}", file=sys.stderr)
        return 2 if error.code == "INVALID_ARGUMENT" else 1
    return 0


async def _serve(name: str, settings: ServerSettings, service: Service) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    calls = CallInterceptor(Authoriser.from_file(settings.tokens_file))
    server = grpc.aio.server(interceptors=[calls], options=CHANNEL_OPTIONS)
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    channelz.add_channelz_servicer(server)
    services = service.add_to(server)
    reflection.enable_server_reflection([*services, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    try:
        port = _listen(server, settings)
        metrics_port = _expose_metrics(settings)
        await server.start()
        report = Health(servicer)
        await service.start(report)
        for each in ("", *services):
            await report.set(each, serving=True)
        announcement = {"service": name, "address": f"{settings.host}:{port}", "metrics_port": metrics_port}
        _announce(settings.announce, announcement)
        log.info("listening", **announcement)
        await stopping.wait()
        log.info("draining", seconds=settings.drain_seconds)
        await report.drain()
        calls.drain()
        await server.stop(settings.drain_seconds)
    finally:
        await service.stop()
    log.info("stopped")


def _listen(server: grpc.aio.Server, settings: ServerSettings) -> int:
    address = f"{settings.host}:{settings.port}"
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if port == 0:
        message = (
            f"cannot listen on {address}: the port is in use or the address is not this machine's; choose another with --port, 0 for any"
        )
        raise FailedPrecondition("PORT_IN_USE", message)
    return port


def _expose_metrics(settings: ServerSettings) -> int | None:
    if settings.metrics_port is None:
        return None
    try:
        server, _ = start_http_server(settings.metrics_port, addr=settings.host)
    except OSError as error:
        message = f"cannot listen on {settings.host}:{settings.metrics_port} for metrics: {error.strerror}; choose another --metrics-port"
        raise FailedPrecondition("PORT_IN_USE", message) from None
    return int(server.server_port)


def _announce(file: Path | None, announcement: dict[str, Any]) -> None:
    if file is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_suffix(".partial")
    aside.write_text(json.dumps({**announcement, "pid": os.getpid(), "time": time.time()}), encoding="utf-8")
    aside.replace(file)
