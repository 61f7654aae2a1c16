"""What surrounds every call: authorisation first, errors turned into statuses, and a count of what happened."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
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
    """Puts `Calls.around` about the handler of every call."""

    def __init__(self, authoriser: Authoriser) -> None:
        self._authoriser = authoriser

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
            yield
            code = "OK"
        except ServiceError as error:
            code = error.code
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
