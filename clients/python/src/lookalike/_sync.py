"""The synchronous client: the asynchronous one on an event loop in a thread of its own, method by method."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import cached_property
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from lookalike._client import AsyncClient
from lookalike._config import DEFAULT_TIMEOUTS, Servers, Timeouts
from lookalike._embedder import AsyncEmbedder
from lookalike._indexer import AsyncIndexer
from lookalike._trainer import AsyncTrainer

A = TypeVar("A")
P = ParamSpec("P")
T = TypeVar("T")


class LoopThread:
    """An event loop in a thread of its own. All clients of a process share one: grpc.aio does not like several."""

    _lock = threading.Lock()
    _shared: LoopThread | None = None

    def __init__(self) -> None:
        self._users = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lookalike", daemon=True)
        self._thread.start()

    @classmethod
    def join(cls) -> LoopThread:
        """Return the running thread, or start it; whoever joins leaves once."""
        with cls._lock:
            if cls._shared is None:
                cls._shared = cls()
            cls._shared._users += 1
            return cls._shared

    def leave(self) -> None:
        """End the thread if nobody else uses it."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                LoopThread._shared = None
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
                self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns; an exception here, such as Ctrl-C, cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, values: AsyncIterator[T]) -> Iterator[T]:
        """Yield what `values` yields; leaving early ends it."""

        async def following() -> tuple[T] | None:
            try:
                return (await anext(values),)
            except StopAsyncIteration:
                return None

        async def end() -> None:
            if hasattr(values, "aclose"):
                await values.aclose()

        try:
            while (following_value := self.run(following())) is not None:
                yield following_value[0]
        finally:
            self.run(end())


class _Blocking(Generic[A]):
    """An object whose methods wait for those of an asynchronous one."""

    def __init__(self, asynchronous: A, loop: LoopThread) -> None:
        self._asynchronous = asynchronous
        self._loop = loop


def _waiting(method: Callable[Concatenate[A, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[_Blocking[A], P], T]:
    @functools.wraps(method)
    def call(self: _Blocking[A], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._loop.run(method(self._asynchronous, *args, **kwargs))

    return call


def _iterating(method: Callable[Concatenate[A, P], AsyncIterator[T]]) -> Callable[Concatenate[_Blocking[A], P], Iterator[T]]:
    @functools.wraps(method)
    def call(self: _Blocking[A], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        async def started() -> AsyncIterator[T]:
            return method(self._asynchronous, *args, **kwargs)

        return self._loop.iterate(self._loop.run(started()))

    return call


class Trainer(_Blocking[AsyncTrainer]):
    """Datasets, recipes, jobs and models."""

    find_missing_blobs = _waiting(AsyncTrainer.find_missing_blobs)
    upload_files = _waiting(AsyncTrainer.upload_files)
    commit_revision = _waiting(AsyncTrainer.commit_revision)
    import_revision = _waiting(AsyncTrainer.import_revision)
    get_revision = _waiting(AsyncTrainer.get_revision)
    list_datasets = _waiting(AsyncTrainer.list_datasets)
    delete_dataset = _waiting(AsyncTrainer.delete_dataset)
    list_recipes = _waiting(AsyncTrainer.list_recipes)
    get_recipe = _waiting(AsyncTrainer.get_recipe)
    create_job = _waiting(AsyncTrainer.create_job)
    get_job = _waiting(AsyncTrainer.get_job)
    list_jobs = _waiting(AsyncTrainer.list_jobs)
    cancel_job = _waiting(AsyncTrainer.cancel_job)
    watch_job = _iterating(AsyncTrainer.watch_job)
    wait_for_job = _waiting(AsyncTrainer.wait_for_job)
    list_models = _waiting(AsyncTrainer.list_models)
    get_model_version = _waiting(AsyncTrainer.get_model_version)
    list_model_versions = _waiting(AsyncTrainer.list_model_versions)
    delete_model = _waiting(AsyncTrainer.delete_model)
    inspect_revision = _waiting(AsyncTrainer.inspect_revision)
    download_job_file = _waiting(AsyncTrainer.download_job_file)
    download_model_version = _waiting(AsyncTrainer.download_model_version)
    set_model_alias = _waiting(AsyncTrainer.set_model_alias)
    list_model_aliases = _waiting(AsyncTrainer.list_model_aliases)
    delete_model_alias = _waiting(AsyncTrainer.delete_model_alias)


class Embedder(_Blocking[AsyncEmbedder]):
    """Pictures to vectors."""

    embed = _waiting(AsyncEmbedder.embed)
    embed_stream = _iterating(AsyncEmbedder.embed_stream)
    list_served_models = _waiting(AsyncEmbedder.list_served_models)
    get_served_model = _waiting(AsyncEmbedder.get_served_model)
    load_model = _waiting(AsyncEmbedder.load_model)
    unload_model = _waiting(AsyncEmbedder.unload_model)


class Indexer(_Blocking[AsyncIndexer]):
    """Collections, searches and rankings."""

    create_collection = _waiting(AsyncIndexer.create_collection)
    get_collection = _waiting(AsyncIndexer.get_collection)
    list_collections = _waiting(AsyncIndexer.list_collections)
    delete_collection = _waiting(AsyncIndexer.delete_collection)
    export_collection = _waiting(AsyncIndexer.export_collection)
    import_collection = _waiting(AsyncIndexer.import_collection)
    create_alias = _waiting(AsyncIndexer.create_alias)
    get_alias = _waiting(AsyncIndexer.get_alias)
    update_alias = _waiting(AsyncIndexer.update_alias)
    list_aliases = _waiting(AsyncIndexer.list_aliases)
    delete_alias = _waiting(AsyncIndexer.delete_alias)
    upsert_items = _waiting(AsyncIndexer.upsert_items)
    get_items = _waiting(AsyncIndexer.get_items)
    list_items = _waiting(AsyncIndexer.list_items)
    count_items = _waiting(AsyncIndexer.count_items)
    count_values = _waiting(AsyncIndexer.count_values)
    update_items = _waiting(AsyncIndexer.update_items)
    delete_items = _waiting(AsyncIndexer.delete_items)
    create_build = _waiting(AsyncIndexer.create_build)
    get_build = _waiting(AsyncIndexer.get_build)
    list_builds = _waiting(AsyncIndexer.list_builds)
    cancel_build = _waiting(AsyncIndexer.cancel_build)
    watch_build = _iterating(AsyncIndexer.watch_build)
    wait_for_build = _waiting(AsyncIndexer.wait_for_build)
    activate_build = _waiting(AsyncIndexer.activate_build)
    search = _waiting(AsyncIndexer.search)
    rank = _waiting(AsyncIndexer.rank)


class Client:
    """The three servers, for programs without an event loop.

    ```python
    with lookalike.Client() as client:
        models = client.trainer.list_models()
        hits = client.run(lookalike.workflows.search(client.asynchronous, "shoe.jpg", "shoes"))
    ```
    """

    def __init__(self, servers: Servers | None = None, *, token: str | None = None, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
        """As `AsyncClient`."""
        self._loop = LoopThread.join()
        self._closed = False
        self.asynchronous = AsyncClient(servers, token=token, timeouts=timeouts)

    @cached_property
    def trainer(self) -> Trainer:
        """Datasets, recipes, jobs and models."""
        return self._loop.run(self._wrapped(Trainer, "trainer"))

    @cached_property
    def embedder(self) -> Embedder:
        """Pictures to vectors."""
        return self._loop.run(self._wrapped(Embedder, "embedder"))

    @cached_property
    def indexer(self) -> Indexer:
        """Collections, searches and rankings."""
        return self._loop.run(self._wrapped(Indexer, "indexer"))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for a workflow that was given `asynchronous`."""
        return self._loop.run(work)

    def health(self, service: str, seconds: float = 5.0) -> bool:
        """As `AsyncClient.health`."""
        return self._loop.run(self.asynchronous.health(service, seconds))

    def close(self) -> None:
        """End the calls under way, the connections and the thread."""
        if not self._closed:
            self._closed = True
            self._loop.run(self.asynchronous.close())
            self._loop.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    async def _wrapped(self, kind: Callable[[Any, LoopThread], T], service: str) -> T:
        # A channel belongs to the loop that it was made in.
        return kind(getattr(self.asynchronous, service), self._loop)
