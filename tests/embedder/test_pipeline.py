"""How pictures wait, join batches, and leave when nobody wants them any more."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lookalike_embedder.callers import BatchEmbedded, FewEmbedded, Refused, StreamCaller
from lookalike_embedder.decode import Decoded
from lookalike_embedder.lanes import Lane
from lookalike_embedder.loading import ServedProfile
from lookalike_embedder.pipeline import Pipeline
from lookalike_images import PictureError
from lookalike_runtime.errors import ResourceExhausted

StartPipeline = Callable[..., Pipeline]
ComesTrue = Callable[[Callable[[], bool]], Awaitable[None]]


def grey(value: int) -> bytes:
    encoded = io.BytesIO()
    Image.new("RGB", (20, 20), (value, value, value)).save(encoded, format="PNG")
    return encoded.getvalue()


async def embed(pipeline: Pipeline, profile: ServedProfile, pictures: list[bytes], deadline: float | None) -> FewEmbedded:
    with pipeline.admit(pictures):
        return await pipeline.embed(profile, pictures, deadline)


async def wait_for_batch(model: Any) -> None:
    """Wait until the device has begun with one more batch."""
    assert await asyncio.to_thread(model.started.acquire, timeout=30)


def places_taken(pipeline: Pipeline, lane: Lane) -> int:
    return pipeline._places[lane].taken


async def test_each_picture_has_its_own_vector(start_pipeline: StartPipeline, profile: ServedProfile) -> None:
    few = await embed(start_pipeline(batch_size=3), profile, [grey(v) for v in range(0, 250, 10)], None)
    assert few.results == tuple(range(25))
    np.testing.assert_allclose(few.vectors[:, 0], np.arange(0, 250, 10))
    assert few.cost.batch_size == 3


async def test_refusal_tells_its_cost_and_holds_nothing_of_the_picture(start_pipeline: StartPipeline, profile: ServedProfile) -> None:
    cut = grey(7)[:40]
    collecting = gc.isenabled()
    gc.disable()
    try:
        before = sys.getrefcount(cut)
        few = await embed(start_pipeline(), profile, [cut], None)
        assert sys.getrefcount(cut) == before, "the refused bytes wait for the garbage collector"
    finally:
        if collecting:
            gc.enable()
    (error,) = few.results
    assert isinstance(error, PictureError)
    assert few.cost.decode_seconds > 0
    assert few.cost.device_seconds == 0


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no niceness of their own")
async def test_what_computes_stands_behind_what_answers(start_pipeline: StartPipeline, profile: ServedProfile) -> None:
    ours = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    await embed(start_pipeline(), profile, [grey(1), grey(2)], None)
    computing = [thread for thread in threading.enumerate() if thread.name.startswith(("decode", "device"))]
    assert {thread.name.partition("_")[0].rstrip("-0123456789") for thread in computing} == {"decode", "device"}
    assert {os.getpriority(os.PRIO_PROCESS, thread.native_id or 0) for thread in computing} == {min(19, ours + 5)}


async def test_bytes_of_a_call_go_once_they_are_decoded(
    start_pipeline: StartPipeline, profile: ServedProfile, model: Any, comes_true: ComesTrue
) -> None:
    model.gate.clear()
    data = [grey(1), grey(2)]
    before = [sys.getrefcount(each) for each in data]
    asked = asyncio.create_task(embed(start_pipeline(batch_size=1), profile, list(data), None))
    await wait_for_batch(model)
    await comes_true(lambda: [sys.getrefcount(each) for each in data] == before)
    model.gate.set()
    await asked


async def test_pictures_of_one_call_share_a_batch_on_an_idle_device(
    start_pipeline: StartPipeline, profile: ServedProfile, model: Any
) -> None:
    await embed(start_pipeline(batch_wait_seconds=30), profile, [grey(v) for v in range(8)], None)
    assert model.batches == [8]


async def test_batch_grows_over_callers_while_the_device_is_busy(start_pipeline: StartPipeline, profile: ServedProfile, model: Any) -> None:
    pipeline = start_pipeline()
    model.gate.clear()
    calls = [asyncio.create_task(embed(pipeline, profile, [grey(0)], None))]
    await wait_for_batch(model)
    for value in range(1, 6):
        calls.append(asyncio.create_task(embed(pipeline, profile, [grey(value)], None)))
        await asyncio.sleep(0.02)
    model.gate.set()
    answers = await asyncio.gather(*calls)
    assert [answer.vectors[0, 0] for answer in answers] == [0, 1, 2, 3, 4, 5]
    assert model.batches == [1, 5]


async def test_batch_waits_no_longer_than_it_may(
    start_pipeline: StartPipeline, profile: ServedProfile, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One picture is decoded at once, the next never: the first must not wait for it."""
    decoded = asyncio.Event()

    def slow(data: bytes, _: object) -> Decoded:
        if data == b"slow":
            time.sleep(1)
        return Decoded(np.zeros((16, 16, 3), np.uint8), 0.0)

    monkeypatch.setattr("lookalike_embedder.decoder.decode", slow)
    pipeline = start_pipeline(batch_wait_seconds=0.05)
    call = asyncio.create_task(embed(pipeline, profile, [b"fast", b"slow"], None))
    call.add_done_callback(lambda _: decoded.set())
    await wait_for_batch(model)
    assert model.batches == [1]
    assert not decoded.is_set()
    await call
    assert model.batches == [1, 1]


async def test_full_queue_is_answered_at_once_with_when_to_come_again(
    start_pipeline: StartPipeline, profile: ServedProfile, model: Any
) -> None:
    pipeline = start_pipeline(queue_pictures=64)
    model.gate.clear()
    first = asyncio.create_task(embed(pipeline, profile, [grey(0)] * 60, None))
    await wait_for_batch(model)
    with pytest.raises(ResourceExhausted) as raised:
        await embed(pipeline, profile, [grey(0)] * 5, None)
    assert raised.value.reason == "QUEUE_FULL"
    assert raised.value.retry_after is not None
    assert 0 < raised.value.retry_after <= 30
    fits = asyncio.create_task(embed(pipeline, profile, [grey(0)] * 4, None))
    model.gate.set()
    assert len((await first).results) == 60
    assert len((await fits).results) == 4
    assert places_taken(pipeline, Lane.INTERACTIVE) == 0


async def test_queue_is_bounded_in_bytes_of_files_and_of_pixels(start_pipeline: StartPipeline, profile: ServedProfile) -> None:
    pipeline, pixels = start_pipeline(queue_bytes=10_000), 3 * 16 * 16
    with pipeline.admit([bytes(9_000)]):
        with pytest.raises(ResourceExhausted), pipeline.admit([bytes(1_001)]):
            pass
        with pipeline.admit([bytes(1_001 - pixels)]), pytest.raises(ResourceExhausted):
            await pipeline.embed(profile, [b"text"], None)
    assert len((await embed(pipeline, profile, [bytes(10_000 - pixels)], None)).results) == 1


async def test_interactive_call_goes_ahead_of_bulk_that_waits(
    start_pipeline: StartPipeline, profile: ServedProfile, model: Any, comes_true: ComesTrue
) -> None:
    pipeline = start_pipeline(batch_size=4, stream_pictures=64)
    stream = pipeline.open_stream(profile, None)
    model.gate.clear()
    for sequence in range(24):
        await pipeline.put(stream, sequence, grey(0))
    await wait_for_batch(model)
    await comes_true(lambda: not pipeline._batcher._being_decoded)
    call = asyncio.create_task(embed(pipeline, profile, [grey(9)], None))
    await comes_true(lambda: pipeline._batcher._queue.next_turn().lane is Lane.INTERACTIVE)  # type: ignore[union-attr]
    model.gate.set()
    await call
    # What ran, what was in the channel, then the call, then the rest of the stream.
    assert model.batches.index(1) == 2
    stream.end()
    assert sum([len(answer.sequences) async for answer in stream.answers() if isinstance(answer, BatchEmbedded)]) == 24


class GatedDecoding:
    """Decodes nothing before the gate is open, and notes what was decoded in which order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate, self.order, self.threads = threading.Event(), list[bytes](), list[str]()
        for stage in ("decoder", "computing"):
            monkeypatch.setattr(f"lookalike_embedder.{stage}.decode", self)

    def __call__(self, data: bytes, _: object) -> Decoded:
        self.order.append(data)
        self.threads.append(threading.current_thread().name)
        assert self.gate.wait(30)
        return Decoded(np.zeros((16, 16, 3), np.uint8), 0.25)


async def test_interactive_call_is_decoded_ahead_of_bulk_that_waits(
    start_pipeline: StartPipeline, profile: ServedProfile, comes_true: ComesTrue, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding, pipeline = GatedDecoding(monkeypatch), start_pipeline()
    stream = pipeline.open_stream(profile, None)
    for sequence in range(6):
        await pipeline.put(stream, sequence, b"bulk")
    await comes_true(lambda: len(decoding.order) == 1)
    call = asyncio.create_task(embed(pipeline, profile, [b"call"], None))
    await comes_true(lambda: places_taken(pipeline, Lane.INTERACTIVE) == 1)
    await asyncio.sleep(0.02)
    decoding.gate.set()
    await call
    assert decoding.order[:2] == [b"bulk", b"call"]


async def test_pictures_of_a_caller_that_went_are_not_decoded(
    start_pipeline: StartPipeline, profile: ServedProfile, comes_true: ComesTrue, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding, pipeline = GatedDecoding(monkeypatch), start_pipeline()
    stays = asyncio.create_task(embed(pipeline, profile, [b"stays"] * 2, None))
    await comes_true(lambda: len(decoding.order) == 1)
    goes = asyncio.create_task(embed(pipeline, profile, [b"goes"] * 5, None))
    await comes_true(lambda: places_taken(pipeline, Lane.INTERACTIVE) == 7)
    goes.cancel()
    await comes_true(lambda: places_taken(pipeline, Lane.INTERACTIVE) == 2)
    decoding.gate.set()
    await stays
    await embed(pipeline, profile, [b"later"], None)
    assert decoding.order == [b"stays", b"stays", b"later"]


async def test_a_lone_picture_is_decoded_where_it_is_computed_while_nothing_else_is_under_way(
    start_pipeline: StartPipeline, profile: ServedProfile, comes_true: ComesTrue, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding, pipeline = GatedDecoding(monkeypatch), start_pipeline(queue_bytes=1 << 21)
    lone = asyncio.create_task(embed(pipeline, profile, [b"lone"], None))
    await comes_true(lambda: len(decoding.order) == 1)
    beside = asyncio.create_task(embed(pipeline, profile, [b"beside"], None))
    await comes_true(lambda: len(decoding.order) == 2)
    decoding.gate.set()
    few = await lone
    assert (few.results, few.cost.decode_seconds, few.cost.batch_size, few.cost.device) == ((0,), 0.25, 1, "cpu")
    assert 0 <= few.cost.queue_seconds < 1
    await beside
    await embed(pipeline, profile, [bytes(1 << 20)], None)  # large: it could keep the device for long
    await embed(pipeline, profile, [b"two", b"two"], None)
    assert [name.rstrip("-_0123456789") for name in decoding.threads] == ["device", *["decode"] * 4]


async def test_a_lone_picture_whose_caller_goes_while_it_is_decoded_is_not_computed(
    start_pipeline: StartPipeline, profile: ServedProfile, model: Any, comes_true: ComesTrue, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding, pipeline = GatedDecoding(monkeypatch), start_pipeline()
    goes = asyncio.create_task(embed(pipeline, profile, [b"goes"], None))
    await comes_true(lambda: len(decoding.order) == 1)
    goes.cancel()
    await comes_true(lambda: places_taken(pipeline, Lane.INTERACTIVE) == 0)
    decoding.gate.set()
    await comes_true(lambda: pipeline._worker.is_free)
    assert model.batches == []
    assert len((await embed(pipeline, profile, [b"stays"], None)).results) == 1


async def stream_after_a_call(pipeline: Pipeline, profile: ServedProfile, model: Any, pictures: int) -> StreamCaller:
    """Put a stream's pictures behind a call, and wait until the first of them run; the gate is closed."""
    await embed(pipeline, profile, [grey(1)], None)
    model.started.acquire()
    stream = pipeline.open_stream(profile, None)
    model.gate.clear()
    for sequence in range(pictures):
        await pipeline.put(stream, sequence, grey(0))
    await wait_for_batch(model)
    return stream


async def test_bulk_batches_are_as_short_as_one_picture_while_calls_come_in(
    start_pipeline: StartPipeline, profile: ServedProfile, model: Any, comes_true: ComesTrue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookalike_embedder.batcher.CALLS_EXPECTED_SECONDS", 30)
    monkeypatch.setattr("lookalike_embedder.pace.Pace.pictures_in_the_time_of_one", lambda _: 2)
    pipeline = start_pipeline(batch_size=8, decode_threads=2)
    stream = await stream_after_a_call(pipeline, profile, model, 24)
    await comes_true(lambda: not pipeline._batcher._being_decoded)
    assert pipeline._worker.has_room, "bulk waits in the channel, ahead of calls"
    call = asyncio.create_task(embed(pipeline, profile, [grey(9)], None))
    await comes_true(lambda: pipeline._batcher._queue.next_turn().lane is Lane.INTERACTIVE)  # type: ignore[union-attr]
    model.gate.set()
    await call
    stream.end()
    assert sum([len(answer.sequences) async for answer in stream.answers() if isinstance(answer, BatchEmbedded)]) == 24
    assert max(model.batches) == 2
    assert model.batches[2] == 1, "the call is next after the batch that ran"


async def test_bulk_leaves_room_for_a_call_on_the_device_while_calls_come_in(
    start_pipeline: StartPipeline, profile: ServedProfile, model: Any, comes_true: ComesTrue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookalike_embedder.batcher.CALLS_EXPECTED_SECONDS", 30)
    pipeline = start_pipeline(capacities=(2,))
    await stream_after_a_call(pipeline, profile, model, 6)
    await comes_true(lambda: not pipeline._batcher._being_decoded)
    await asyncio.sleep(0.05)
    assert model.batches == [1, 1], "a second batch of the stream runs beside the first"
    call = asyncio.create_task(embed(pipeline, profile, [grey(9)], None))
    await wait_for_batch(model)
    await comes_true(lambda: pipeline._batcher._queue.next_turn().lane is Lane.BULK)  # type: ignore[union-attr]
    model.gate.set()
    assert (await call).vectors[0, 0] == 9


async def test_bulk_batches_are_full_again_once_no_calls_come(
    start_pipeline: StartPipeline, profile: ServedProfile, model: Any, comes_true: ComesTrue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookalike_embedder.batcher.CALLS_EXPECTED_SECONDS", 0.01)
    pipeline = start_pipeline(batch_size=8)
    await embed(pipeline, profile, [grey(1)], None)
    await asyncio.sleep(0.02)
    model.gate.clear()
    stream = pipeline.open_stream(profile, None)
    for sequence in range(24):
        await pipeline.put(stream, sequence, grey(0))
    await comes_true(lambda: not pipeline._batcher._being_decoded)
    model.gate.set()
    stream.end()
    assert sum([len(answer.sequences) async for answer in stream.answers() if isinstance(answer, BatchEmbedded)]) == 24
    assert max(model.batches) == 8


async def test_pictures_of_a_caller_that_went_cost_no_device_time_and_free_their_places(
    start_pipeline: StartPipeline, profile: ServedProfile, model: Any, comes_true: ComesTrue
) -> None:
    pipeline = start_pipeline(batch_size=64)
    model.gate.clear()
    stays = asyncio.create_task(embed(pipeline, profile, [grey(1)], None))
    await wait_for_batch(model)
    goes = asyncio.create_task(embed(pipeline, profile, [grey(2)] * 60, None))
    await comes_true(lambda: places_taken(pipeline, Lane.INTERACTIVE) == 61)
    goes.cancel()
    await comes_true(lambda: places_taken(pipeline, Lane.INTERACTIVE) == 1)
    model.gate.set()
    await stays
    assert len((await embed(pipeline, profile, [grey(3)], None)).results) == 1
    assert model.batches == [1, 1]


async def test_pictures_past_their_deadline_cost_no_device_time(
    start_pipeline: StartPipeline, profile: ServedProfile, model: Any, comes_true: ComesTrue
) -> None:
    pipeline = start_pipeline()
    model.gate.clear()
    stays = asyncio.create_task(embed(pipeline, profile, [grey(1)], None))
    await wait_for_batch(model)
    expires = asyncio.create_task(embed(pipeline, profile, [grey(2)] * 5, time.monotonic() + 0.2))
    await comes_true(lambda: not pipeline._batcher._being_decoded)
    await asyncio.sleep(0.25)
    model.gate.set()
    await stays
    await embed(pipeline, profile, [grey(3)], None)
    assert model.batches == [1, 1]
    expires.cancel()


async def test_closed_stream_gives_its_places_to_one_that_waits(start_pipeline: StartPipeline, profile: ServedProfile, model: Any) -> None:
    pipeline = start_pipeline(queue_pictures=8, batch_size=2)
    model.gate.clear()
    gone, waiting = pipeline.open_stream(profile, None), pipeline.open_stream(profile, None)
    for sequence in range(8):
        await pipeline.put(gone, sequence, grey(0))
    put = asyncio.create_task(pipeline.put(waiting, 1, grey(0)))
    await asyncio.sleep(0.05)
    assert not put.done()
    gone.close()
    await asyncio.wait_for(put, 10)
    waiting.end()
    model.gate.set()
    assert [answer.sequences async for answer in waiting.answers() if isinstance(answer, BatchEmbedded)] == [(1,)]


async def test_stream_that_is_not_read_takes_only_so_many_pictures(
    start_pipeline: StartPipeline, profile: ServedProfile, comes_true: ComesTrue
) -> None:
    pipeline = start_pipeline(stream_pictures=5)
    stream = pipeline.open_stream(profile, None)
    for sequence in range(5):
        await pipeline.put(stream, sequence, grey(0) if sequence else b"text")
    sixth = asyncio.create_task(pipeline.put(stream, 5, grey(0)))
    await comes_true(lambda: places_taken(pipeline, Lane.BULK) == 0)  # all are answered, none is read
    await asyncio.sleep(0.05)
    assert not sixth.done()
    answers = stream.answers()
    seen = [await anext(answers), await anext(answers)]  # asking for the second says that the first is sent
    await asyncio.wait_for(sixth, 10)
    stream.end()
    seen += [answer async for answer in answers]
    assert [answer.sequence for answer in seen if isinstance(answer, Refused)] == [0]
    assert sorted(s for answer in seen if isinstance(answer, BatchEmbedded) for s in answer.sequences) == [1, 2, 3, 4, 5]


async def test_failing_device_fails_the_callers_of_that_batch_only(
    start_pipeline: StartPipeline, profile: ServedProfile, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = start_pipeline()
    with monkeypatch.context() as patched:

        def break_down(_: object) -> None:
            raise RuntimeError("out of memory")

        patched.setattr(model, "embed", break_down)
        stream = pipeline.open_stream(profile, None)
        await pipeline.put(stream, 1, grey(0))
        with pytest.raises(RuntimeError, match="out of memory"):
            await anext(stream.answers())
        with pytest.raises(RuntimeError, match="out of memory"):
            await embed(pipeline, profile, [grey(0)], None)
    assert len((await embed(pipeline, profile, [grey(0)], None)).results) == 1


async def test_broken_stage_ends_the_server(start_pipeline: StartPipeline, monkeypatch: pytest.MonkeyPatch, comes_true: ComesTrue) -> None:
    signals: list[int] = []
    monkeypatch.setattr("signal.raise_signal", signals.append)

    async def break_down(_: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr("lookalike_embedder.batcher.Batcher.run", break_down)
    start_pipeline()
    await comes_true(lambda: signals == [signal.SIGTERM])
