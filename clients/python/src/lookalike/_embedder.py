"""The embedder: pictures to vectors, and what it serves."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from typing import Any

from lookalike._channel import Channel, as_async
from lookalike._config import Timeouts
from lookalike._embed_stream import DEFAULT_WINDOW, EmbedStream, Window
from lookalike._models import Cost, Embedded, Embeddings, Problem, ServedModel, Space, Target
from lookalike._status import problem_of
from lookalike._wire import read, write
from lookalike_protos.embedder.v1 import embedder_pb2, embedder_pb2_grpc, models_pb2, models_pb2_grpc
from lookalike_protos.packing import unpack_vectors


class AsyncEmbedder:
    """Calls of the embedder; `AsyncClient.embedder` is one."""

    def __init__(self, channel: Channel, timeouts: Timeouts) -> None:
        self._channel = channel
        self._timeouts = timeouts
        self._pictures = embedder_pb2_grpc.EmbedderServiceStub(channel.grpc)
        self._models = models_pb2_grpc.ServedModelServiceStub(channel.grpc)

    async def embed(self, target: Target, pictures: Sequence[bytes]) -> Embeddings:
        """Embed 1 to 64 encoded pictures, 15 MiB together; for more use `embed_stream`."""
        request = embedder_pb2.EmbedRequest(
            target=write(target, embedder_pb2.Target), pictures=[embedder_pb2.Picture(data=each) for each in pictures]
        )
        answer = await self._channel.unary(self._pictures.Embed, request, self._timeouts.embed)
        results: list[int | Problem] = [
            problem_of(each.error) if each.WhichOneof("result") == "error" else each.row for each in answer.results
        ]
        vectors, space = unpack_vectors(answer.vectors), read(Space, answer.vectors.space)
        return Embeddings(vectors, space, tuple(results), answer.model_version, read(Cost, answer.cost))

    def embed_stream(
        self, target: Target, pictures: AsyncIterable[tuple[Any, bytes]] | Iterable[tuple[Any, bytes]], window: Window = DEFAULT_WINDOW
    ) -> AsyncGenerator[Embedded]:
        """Embed any number of pictures, given as pairs of a key of your own and the encoded picture.

        Yields one answer for each, in any order, under its key. At most `window` is under way at once.
        """
        message = write(target, embedder_pb2.Target)
        stream = EmbedStream(self._channel, self._pictures.EmbedStream, message, as_async(pictures), window, self._timeouts.silence)
        return stream.answers()

    async def list_served_models(self) -> list[ServedModel]:
        """Return the versions that are loaded, being loaded, or failed."""
        answer = await self._channel.unary(self._models.ListServedModels, models_pb2.ListServedModelsRequest(), self._timeouts.call)
        return [read(ServedModel, each) for each in answer.models]

    async def get_served_model(self, name: str) -> ServedModel:
        """Look at `models/M/versions/V`, loaded or not."""
        request = models_pb2.GetServedModelRequest(name=name)
        return read(ServedModel, await self._channel.unary(self._models.GetServedModel, request, self._timeouts.call))

    async def load_model(self, name: str) -> ServedModel:
        """Load a version and prove it on its golden pictures; answers when it is ready."""
        request = models_pb2.LoadModelRequest(name=name)
        return read(ServedModel, await self._channel.unary(self._models.LoadModel, request, self._timeouts.embed))

    async def unload_model(self, name: str) -> ServedModel:
        """Give a version's memory back."""
        request = models_pb2.UnloadModelRequest(name=name)
        return read(ServedModel, await self._channel.unary(self._models.UnloadModel, request, self._timeouts.call))
