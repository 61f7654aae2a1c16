"""One channel to one server: limits, keep-alive, retries, deadlines and errors, decided here for every call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc
import grpc.aio

from lookalike._exceptions import DeadlineExceeded
from lookalike._status import error_of_call

T = TypeVar("T")

MAX_MESSAGE_BYTES = 16 * 1024 * 1024

_RETRIES = {"maxAttempts": 4, "initialBackoff": "0.2s", "maxBackoff": "3s", "backoffMultiplier": 2}
# Calls that may be repeated: they only look, or name what they make (`request_id`), or end in the same state.
_REPEATABLE = {
    "lookalike.trainer.v1.DatasetService": ("FindMissingBlobs", "ListDatasets", "GetRevision", "InspectRevision"),
    "lookalike.trainer.v1.JobService": ("CreateJob", "GetJob", "ListJobs", "CancelJob"),
    "lookalike.trainer.v1.ModelService": ("ListModels", "GetModelVersion", "ListModelVersions", "ListModelAliases"),
    "lookalike.embedder.v1.EmbedderService": ("Embed",),
    "lookalike.embedder.v1.ServedModelService": ("ListServedModels", "GetServedModel", "LoadModel", "UnloadModel"),
    "lookalike.indexer.v1.CollectionService": ("GetCollection", "ListCollections", "ListAliases"),
    "lookalike.indexer.v1.ItemService": ("BatchGetItems", "ListItems", "DeleteItems"),
    "lookalike.indexer.v1.BuildService": ("CreateBuild", "GetBuild", "ListBuilds", "CancelBuild", "ActivateBuild"),
    "lookalike.indexer.v1.SearchService": ("Search",),
}
# A full queue is a reason to come again, but not for calls that fail alike each time, such as on a full disk.
_WAITS_FOR_A_PLACE = ("Embed",)


def _service_config() -> str:
    def policy(method: str) -> dict[str, Any]:
        codes = ["UNAVAILABLE", *(["RESOURCE_EXHAUSTED"] if method in _WAITS_FOR_A_PLACE else [])]
        return {**_RETRIES, "retryableStatusCodes": codes}

    methods = [(service, method) for service, several in _REPEATABLE.items() for method in several]
    return json.dumps({"methodConfig": [{"name": [{"service": s, "method": m}], "retryPolicy": policy(m)} for s, m in methods]})


_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # A watched job may say nothing for long; the connection is checked all the same.
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_retries", 1),
    ("grpc.service_config", _service_config()),
    # A request that is larger than this buffer is not sent again.
    ("grpc.per_rpc_retry_buffer_size", MAX_MESSAGE_BYTES),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]


class Channel:
    """The way to one server. Made inside the event loop that uses it."""

    def __init__(self, service: str, address: str, found: str, token: str | None) -> None:
        """`found` says where the address comes from; it is part of the message when nobody answers there."""
        self.service = service
        self.address = address
        self._found = found
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self.grpc = grpc.aio.insecure_channel(address, options=_OPTIONS)

    async def close(self) -> None:
        """End the calls under way and the connection."""
        await self.grpc.close()

    async def unary(self, method: Callable[..., Awaitable[T]], request: Any, seconds: float) -> T:
        """Call a method that answers once; `request` may be an asynchronous stream of requests."""
        with self._errors():
            return await method(request, timeout=seconds, metadata=self._metadata)

    async def stream(self, method: Callable[..., Any], request: Any, silence: Callable[[], float | None]) -> AsyncIterator[Any]:
        """Call a method that answers with a stream.

        `silence` is asked before each answer how many seconds it may take: None for any number.
        """
        call = method(request, metadata=self._metadata)
        try:
            answers = aiter(call)
            while True:
                with self._errors():
                    try:
                        answer = await _within(silence, answers)
                    except StopAsyncIteration:
                        return
                yield answer
        finally:
            call.cancel()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise error_of_call(error, self.service, self.address, self._found) from None
        except TimeoutError:
            raise DeadlineExceeded(
                f"the {self.service} at {self.address} fell silent: look at `lookalike status`, then try again", reason="SILENCE"
            ) from None


async def _within(silence: Callable[[], float | None], answers: AsyncIterator[T]) -> T:
    """Return the next of `answers`; raises TimeoutError once `silence()` seconds have passed since something was owed."""
    upcoming = asyncio.ensure_future(anext(answers))
    try:
        while True:
            seconds = silence()
            done, _ = await asyncio.wait([upcoming], timeout=seconds if seconds is not None else 5.0)
            if done:
                return upcoming.result()
            if seconds is not None:
                raise TimeoutError
    finally:
        upcoming.cancel()


def as_async(values: AsyncIterable[T] | Iterable[T]) -> AsyncIterable[T]:
    """Return `values` as an asynchronous iterable, whichever kind it is."""
    if isinstance(values, AsyncIterable):
        return values

    async def each() -> AsyncIterator[T]:
        for value in values:
            yield value

    return each()
