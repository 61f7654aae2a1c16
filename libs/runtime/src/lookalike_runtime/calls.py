"""What surrounds every call: authorisation first, errors turned into statuses, and a count of what happened."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import partial
from typing import Any

import grpc
import structlog
from google.rpc.code_pb2 import Code
from grpc_status import rpc_status
from prometheus_client import Counter, Gauge, Histogram

from lookalike_runtime.auth import Authoriser
from lookalike_runtime.errors import ServiceError, Unavailable
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

Responses = AsyncGenerator[Any, None]
Surroundings = Callable[["grpc.aio.ServicerContext[Any, Any]"], AbstractAsyncContextManager[None]]


_LASTING = ("Watch", "Rank")  # how calls begin that may last longer than a drain


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Surrounds the handler of every call with authorisation, statuses and counts."""

    def __init__(self, authoriser: Authoriser) -> None:
        self._authoriser = authoriser
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """End every Watch and Rank call with UNAVAILABLE: it would last as long as what it watches or works on. Its caller calls again."""
        self._draining.set()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        if method.rpartition("/")[2].startswith(_LASTING):
            return _surround(handler, partial(self._around, method), partial(_until, self._draining))
        return _surround(handler, partial(self._around, method))

    @asynccontextmanager
    async def _around(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
        started = time.perf_counter()
        code = "CANCELLED"
        IN_FLIGHT.labels(method).inc()
        try:
            self._authoriser.check(method, dict(context.invocation_metadata() or ()))
            yield
            code = "OK"
        except ServiceError as error:
            code = error.code
            # What is aborted stays until the garbage collector looks, and the request with it if a frame still has it.
            traceback.clear_frames(error.__traceback__)
            await context.abort_with_status(rpc_status.to_status(status_of(error)))
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


async def _until(stopping: asyncio.Event, responses: Responses) -> Responses:
    """Yield `responses` until `stopping`; raises Unavailable then."""
    stopped = asyncio.ensure_future(stopping.wait())
    following = asyncio.ensure_future(anext(responses, None))
    try:
        while True:
            await asyncio.wait({stopped, following}, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                raise Unavailable("DRAINING", "the server is stopping: call again, a watch after the last event seen", retry_after=1)
            if (response := following.result()) is None:
                return
            yield response
            following = asyncio.ensure_future(anext(responses, None))
    finally:
        stopped.cancel()
        following.cancel()
        await asyncio.wait({stopped, following})


def _as_it_is(responses: Responses) -> Responses:
    return responses


def _surround(
    handler: grpc.RpcMethodHandler[Any, Any], around: Surroundings, limited: Callable[[Responses], Responses] = _as_it_is
) -> grpc.RpcMethodHandler[Any, Any]:
    """Return `handler` with `around` about its call, whichever of the four kinds it is, and its stream of responses `limited`."""

    async def answer_once(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        async with around(context):
            answering = behaviour(request, context)
            del request
            return await answering

    async def answer_stream(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Responses:
        async with around(context), aclosing(behaviour(request, context)) as responses, aclosing(limited(responses)) as answers:
            async for answer in answers:
                yield answer

    kind = f"{'stream' if handler.request_streaming else 'unary'}_{'stream' if handler.response_streaming else 'unary'}"
    behaviour = getattr(handler, kind)
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    answer = answer_stream if handler.response_streaming else answer_once
    surrounded: grpc.RpcMethodHandler[Any, Any] = make(answer, handler.request_deserializer, handler.response_serializer)
    return surrounded
