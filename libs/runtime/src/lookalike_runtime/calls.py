"""What surrounds every call: authorisation first, errors turned into statuses, and a count of what happened."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import grpc
import structlog
from google.rpc.code_pb2 import Code
from grpc_status import rpc_status
from prometheus_client import Counter, Gauge, Histogram

from lookalike_runtime.auth import Authoriser
from lookalike_runtime.errors import ServiceError
from lookalike_runtime.status import status_of

log = structlog.get_logger()

CALLS = Counter("lookalike_calls_total", "Calls that ended, by method and status code.", ["method", "code"])
SECONDS = Histogram(
    "lookalike_call_seconds",
    "Duration of calls in seconds.",
    ["method"],
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 60),
)
IN_FLIGHT = Gauge("lookalike_calls_in_flight", "Calls under way, by method.", ["method"])

Surroundings = Callable[["grpc.aio.ServicerContext[Any, Any]"], AbstractAsyncContextManager[None]]


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Surrounds the handler of every call with authorisation, statuses and counts."""

    def __init__(self, authoriser: Authoriser) -> None:
        self._authoriser = authoriser
        self._watches: set[asyncio.Task[Any]] = set()
        self._draining = False

    def drain(self) -> None:
        """End every Watch call with UNAVAILABLE: it would last as long as what it watches. Its caller reconnects and misses nothing."""
        self._draining = True
        for watch in self._watches:
            watch.cancel()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        return _surround(handler, partial(self._around, handler_call_details.method))

    @asynccontextmanager
    async def _around(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
        started = time.perf_counter()
        code = "CANCELLED"
        IN_FLIGHT.labels(method).inc()
        try:
            self._authoriser.check(method, dict(context.invocation_metadata() or ()))
            with self._noted(method):
                yield
            code = "OK"
        except ServiceError as error:
            code = error.code
            await context.abort_with_status(rpc_status.to_status(status_of(error)))
        except asyncio.CancelledError:
            if not self._draining:
                raise
            code = "UNAVAILABLE"
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is stopping: call again after the last event seen")
        except grpc.aio.AbortError:
            code = Code.Name(context.code() or 2)
            raise
        except Exception as error:
            code = "INTERNAL"
            log.exception("call_failed", method=method)
            await context.abort(grpc.StatusCode.INTERNAL, f"internal error ({type(error).__name__}): the server's log holds the details")
        finally:
            IN_FLIGHT.labels(method).dec()
            CALLS.labels(method, code).inc()
            SECONDS.labels(method).observe(time.perf_counter() - started)

    @contextmanager
    def _noted(self, method: str) -> Iterator[None]:
        """Remember the task of a Watch call for `drain`."""
        task = asyncio.current_task()
        if task is None or not method.rpartition("/")[2].startswith("Watch"):
            yield
            return
        self._watches.add(task)
        try:
            yield
        finally:
            self._watches.discard(task)


def _surround(handler: grpc.RpcMethodHandler[Any, Any], around: Surroundings) -> grpc.RpcMethodHandler[Any, Any]:
    """Return `handler` with `around` about its call, whichever of the four kinds it is."""

    async def answer_once(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        async with around(context):
            return await behaviour(request, context)

    async def answer_stream(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        async with around(context):
            async for response in behaviour(request, context):
                yield response

    kind = f"{'stream' if handler.request_streaming else 'unary'}_{'stream' if handler.response_streaming else 'unary'}"
    behaviour = getattr(handler, kind)
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    answer = answer_stream if handler.response_streaming else answer_once
    surrounded: grpc.RpcMethodHandler[Any, Any] = make(answer, handler.request_deserializer, handler.response_serializer)
    return surrounded
