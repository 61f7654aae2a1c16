"""Who watches misses nothing and sees nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
import pytest

from lookalike import AsyncClient, Servers, State, Timeouts, WorkFailed
from lookalike_protos.trainer.v1 import jobs_pb2
from lookalike_protos.types.v1 import operations_pb2

Serve = Callable[[Callable[[grpc.aio.Server], None]], AbstractAsyncContextManager[str]]


class Jobs:
    """A job of five events; each connection breaks or falls silent after one."""

    def __init__(self, end: operations_pb2.State.ValueType, *, silent: bool = False) -> None:
        self.end = end
        self.silent = silent
        self.asked: list[int] = []

    def add_to(self, server: grpc.aio.Server) -> None:
        watch = grpc.unary_stream_rpc_method_handler(
            self._watch_job, jobs_pb2.WatchJobRequest.FromString, operations_pb2.Event.SerializeToString
        )
        get = grpc.unary_unary_rpc_method_handler(self._get_job, jobs_pb2.GetJobRequest.FromString, jobs_pb2.Job.SerializeToString)
        service = "lookalike.trainer.v1.JobService"
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"WatchJob": watch, "GetJob": get}),))

    async def _watch_job(
        self, request: jobs_pb2.WatchJobRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[operations_pb2.Event]:
        self.asked.append(request.after_sequence)
        sequence = request.after_sequence + 1
        yield operations_pb2.Event(sequence=sequence, state=self.end if sequence == 5 else operations_pb2.STATE_RUNNING)
        if sequence < 5 and self.silent:
            await asyncio.sleep(30)
        if sequence < 5:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "draining")

    async def _get_job(self, request: jobs_pb2.GetJobRequest, context: grpc.aio.ServicerContext[Any, Any]) -> jobs_pb2.Job:
        return jobs_pb2.Job(name=request.name, state=self.end, model_version="models/m/versions/1")


@pytest.mark.parametrize("silent", [False, True])
async def test_watch_goes_on_after_the_last_event_seen(serve: Serve, silent: bool) -> None:
    fake = Jobs(operations_pb2.STATE_SUCCEEDED, silent=silent)
    async with serve(fake.add_to) as address, AsyncClient(Servers(trainer=address), token="", timeouts=Timeouts(silence=0.2)) as client:
        events = [event.sequence async for event in client.trainer.watch_job("jobs/1")]
        assert (await client.trainer.wait_for_job("jobs/1")).state is State.SUCCEEDED
    assert events == [1, 2, 3, 4, 5]
    assert fake.asked[:5] == [0, 1, 2, 3, 4]


async def test_job_that_failed_is_an_error_with_its_name(serve: Serve) -> None:
    async with serve(Jobs(operations_pb2.STATE_CANCELLED).add_to) as address, AsyncClient(Servers(trainer=address), token="") as client:
        with pytest.raises(WorkFailed, match="jobs/1 made no model: it is cancelled") as caught:
            await client.trainer.wait_for_job("jobs/1")
    assert caught.value.metadata == {"name": "jobs/1"}
