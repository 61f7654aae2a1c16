"""What surrounds a call."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import grpc
import pytest

from lookalike_runtime.auth import Authoriser
from lookalike_runtime.calls import CallInterceptor
from lookalike_runtime.errors import ResourceExhausted


class Request:
    """A large message."""


class Context:
    """Keeps what it aborts with, as gRPC's does."""

    def __init__(self) -> None:
        self.aborted: grpc.aio.AbortError | None = None

    def invocation_metadata(self) -> tuple[()]:
        return ()

    async def abort_with_status(self, _status: object) -> None:
        self.aborted = grpc.aio.AbortError("aborted")
        raise self.aborted


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


async def test_request_of_a_refused_call_is_freed_at_once(no_collector: None) -> None:
    async def refuse(request: Request, _context: Any) -> None:
        pictures = [request]
        raise ResourceExhausted("QUEUE_FULL", f"no room for {len(pictures)}", retry_after=1)

    async def found(_details: object) -> Any:
        return grpc.unary_unary_rpc_method_handler(refuse)

    interceptor = CallInterceptor(Authoriser.from_file(None))
    handler: Any = await interceptor.intercept_service(found, Mock(method="/lookalike.v1.Service/Call"))
    contexts = [Context() for _ in range(3)]
    requests = []
    for context in contexts:
        request = Request()
        requests.append(weakref.ref(request))
        answering = handler.unary_unary(request, context)
        del request
        with pytest.raises(grpc.aio.AbortError):
            await answering
        del answering
    assert [kept() for kept in requests] == [None, None, None]
