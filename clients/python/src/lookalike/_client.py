"""The asynchronous client: a channel to each server, opened when it is first used."""

from __future__ import annotations

from functools import cached_property
from types import TracebackType
from typing import Self

from grpc_health.v1 import health_pb2, health_pb2_grpc

from lookalike._channel import Channel
from lookalike._config import DEFAULT_TIMEOUTS, SERVICES, Servers, Timeouts, load_config
from lookalike._embedder import AsyncEmbedder
from lookalike._indexer import AsyncIndexer
from lookalike._trainer import AsyncTrainer


class AsyncClient:
    """The three servers.

    ```python
    async with lookalike.AsyncClient() as client:
        models = await client.trainer.list_models()
    ```
    """

    def __init__(self, servers: Servers | None = None, *, token: str | None = None, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
        """Without `servers` and `token` they come from the environment, the configuration file or the last `lookalike up`."""
        if servers is None or token is None:
            config = load_config()
            servers, token = servers or config.servers, token or config.token
        self.servers = servers
        self._token = token
        self._timeouts = timeouts
        self._channels: dict[str, Channel] = {}

    @cached_property
    def trainer(self) -> AsyncTrainer:
        """Datasets, jobs and models."""
        return AsyncTrainer(self._channel("trainer"), self._timeouts)

    @cached_property
    def embedder(self) -> AsyncEmbedder:
        """Pictures to vectors."""
        return AsyncEmbedder(self._channel("embedder"), self._timeouts)

    @cached_property
    def indexer(self) -> AsyncIndexer:
        """Collections, searches and rankings."""
        return AsyncIndexer(self._channel("indexer"), self._timeouts)

    async def health(self, service: str, seconds: float = 5.0) -> bool:
        """Return whether `trainer`, `embedder` or `indexer` serves; raises ServerNotReachable if nobody answers."""
        channel = self._channel(service)
        check = health_pb2_grpc.HealthStub(channel.grpc).Check
        answer = await channel.unary(check, health_pb2.HealthCheckRequest(), seconds)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def close(self) -> None:
        """End the calls under way and the connections."""
        for channel in self._channels.values():
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    def _channel(self, service: str) -> Channel:
        if service not in SERVICES:
            raise ValueError(f"{service!r} is no service: {', '.join(SERVICES)}")
        if service not in self._channels:
            where = self.servers.found.get(service, "given")
            self._channels[service] = Channel(service, getattr(self.servers, service), where, self._token)
        return self._channels[service]
