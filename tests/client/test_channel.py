"""Retries only where a call may be repeated; errors that say what to do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
import pytest

from lookalike import AsyncClient, DeadlineExceeded, ServerNotReachable, Servers, Timeouts, _channel
from lookalike_protos.embedder.v1 import embedder_pb2
from lookalike_protos.embedder.v1 import models_pb2 as served_pb2
from lookalike_protos.indexer.v1 import builds_pb2, collections_pb2, items_pb2, search_pb2
from lookalike_protos.trainer.v1 import datasets_pb2, jobs_pb2, models_pb2

Serve = Callable[[Callable[[grpc.aio.Server], None]], AbstractAsyncContextManager[str]]


class FailingJobs:
    """Refuses the first calls of each method as a server does that drains."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.calls = 0
        self.metadata: dict[str, object] = {}

    def add_to(self, server: grpc.aio.Server) -> None:
        handler = grpc.unary_unary_rpc_method_handler(self._get_job, jobs_pb2.GetJobRequest.FromString, jobs_pb2.Job.SerializeToString)
        service = "lookalike.trainer.v1.JobService"
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"GetJob": handler}),))

    async def _get_job(self, request: jobs_pb2.GetJobRequest, context: grpc.aio.ServicerContext[Any, Any]) -> jobs_pb2.Job:
        self.calls += 1
        self.metadata = dict(context.invocation_metadata() or ())
        if self.calls <= self.refusals:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "draining")
        if request.name == "jobs/slow":
            await asyncio.sleep(30)
        return jobs_pb2.Job(name=request.name)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_nobody_there_is_said_with_the_address_and_what_to_do() -> None:
    address = f"127.0.0.1:{free_port()}"
    async with AsyncClient(Servers(trainer=address), token="") as client:
        with pytest.raises(ServerNotReachable, match=rf"no trainer answers at {address} .*lookalike up") as caught:
            await client.trainer.list_models()
    assert caught.value.metadata == {"service": "trainer", "address": address}


async def test_call_that_only_looks_is_tried_again(serve: Serve) -> None:
    fake = FailingJobs(refusals=2)
    async with serve(fake.add_to) as address, AsyncClient(Servers(trainer=address), token="") as client:
        assert (await client.trainer.get_job("jobs/1")).name == "jobs/1"
    assert fake.calls == 3


async def test_deadline_is_kept_and_token_sent(serve: Serve) -> None:
    fake = FailingJobs(refusals=0)
    timeouts = Timeouts(call=0.3)
    async with serve(fake.add_to) as address, AsyncClient(Servers(trainer=address), token="secret", timeouts=timeouts) as client:
        with pytest.raises(DeadlineExceeded, match="did not answer in time"):
            await client.trainer.get_job("jobs/slow")
    assert fake.metadata["authorization"] == "Bearer secret"


def test_only_repeatable_calls_are_retried() -> None:
    services = {
        service.full_name: service
        for module in (builds_pb2, collections_pb2, items_pb2, search_pb2, embedder_pb2, served_pb2, datasets_pb2, jobs_pb2, models_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
    }
    retried = {(service, method) for service, methods in _channel._REPEATABLE.items() for method in methods}
    for service, method in retried:
        descriptor = services[service].methods_by_name[method]
        assert not descriptor.client_streaming
        assert not descriptor.server_streaming
        request = descriptor.input_type.fields_by_name
        creates = method.startswith("Create")
        assert not creates or "request_id" in request, f"{method} makes something new each time"
    looks = {
        (name, method.name)
        for name, service in services.items()
        for method in service.methods
        if method.name.startswith(("Get", "List", "BatchGet", "Find")) and not method.client_streaming
    }
    assert looks <= retried
