"""A model that answers when the test lets it, and callers that note what they are told."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike_embedder.loading import ServedProfile
from lookalike_embedder.pipeline import Pipeline, PipelineLimits
from lookalike_images import Preprocessing
from lookalike_model.fingerprint import Space
from lookalike_model.inputs import PictureInputs


class GatedModel:
    """A picture's vector is its mean colour; each batch waits until the gate is open."""

    inputs = PictureInputs((Preprocessing(size=16),))
    device = "cpu"
    precision = "fp32"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Semaphore(0)
        self.batches: list[int] = []

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.batches.append(len(pixels))
        self.started.release()
        assert self.gate.wait(30)
        means: NDArray[np.float32] = pixels.mean(axis=(1, 2), dtype=np.float32)
        return means


@pytest.fixture
def model() -> GatedModel:
    return GatedModel()


@pytest.fixture
def profile(model: Any) -> ServedProfile:
    """A served profile of that model."""
    return ServedProfile("models/fake/versions/1", cast("Any", model), Space("ls1:fake", "fake", "1", "plain", 3))


@pytest.fixture
async def start_pipeline(model: Any) -> AsyncIterator[Callable[..., Pipeline]]:
    """Start a pipeline with other limits than the usual ones."""
    started: list[Pipeline] = []

    def start(capacities: Sequence[int] = (1,), **limits: float) -> Pipeline:
        usual: dict[str, Any] = {
            "queue_pictures": 64,
            "queue_bytes": 1 << 20,
            "stream_pictures": 64,
            "batch_size": 8,
            "batch_wait_seconds": 0.05,
            "decode_threads": 1,
        }
        pipeline = Pipeline(PipelineLimits(**{**usual, **limits}), capacities)
        pipeline.start()
        started.append(pipeline)
        return pipeline

    yield start
    model.gate.set()
    for pipeline in started:
        await pipeline.stop()


@pytest.fixture
def comes_true() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Wait until a question is answered with yes."""

    async def wait(question: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not question():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)

    return wait
