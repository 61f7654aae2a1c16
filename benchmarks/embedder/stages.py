"""What a device makes of pictures: its network alone, decoding alone, and both in the embedder's stages, without the wire."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.embedder.bundle import make_bundle
from benchmarks.embedder.pictures import jpegs
from lookalike_embedder.callers import BatchEmbedded
from lookalike_embedder.fastest import FastestNumerics, Measuring
from lookalike_embedder.loading import ServedProfile
from lookalike_embedder.pipeline import Pipeline, PipelineLimits
from lookalike_embedder.trial import Trial, seconds_a_picture
from lookalike_model.bundle import Bundle
from lookalike_model.cores import cores
from lookalike_model.embedding_model import PictureModel
from lookalike_model.ensemble_model import for_inference, load_model
from lookalike_model.golden import prove


@dataclass(frozen=True, slots=True)
class Setting:
    """What is measured.

    Attributes:
        architecture: timm's name of the network.
        size: pixels a side that it takes.
        side: pixels a side of the JPEGs.
        device: where it runs.
        batches: sizes of batches, the best of which counts.
        seconds: of each measurement.
    """

    architecture: str = "resnet50"
    size: int = 224
    side: int = 500
    device: str = "cuda"
    batches: tuple[int, ...] = (32, 64, 128, 256)
    count: int = 256
    seconds: float = 5.0


def measure(setting: Setting, work: Path) -> dict[str, Any]:
    """Return images/s of each, and which of network and decoding stops the stages.

    Raises:
        RuntimeError: on the device the network misses the golden vectors of the CPU, or a picture was refused.
    """
    bundle = make_bundle(work / "bundle", setting.architecture, setting.size)
    pictures = jpegs(setting.count, setting.side, None)
    pipeline = Pipeline(_limits(max(setting.batches)), [cores() if setting.device == "cpu" else 1])
    profile, told = _served(setting, bundle, pipeline, work)
    network = {batch: 1 / seconds_a_picture(profile.model, Trial(cores(), 1, batch), setting.seconds) for batch in setting.batches}
    decoding = _decoding(profile.model, pictures, setting.seconds)
    stages = asyncio.run(_stages(pipeline, profile, pictures, setting.seconds))
    best = max(network.values())
    return {
        **told,
        "network_images_per_second": network,
        "decoding_images_per_second": decoding,
        "decoding_cores": cores(),
        "stages_images_per_second": stages,
        "stages_vs_network": stages / best,
        "stopped_by": "decoding" if decoding < best else "network",
    }


def _limits(batch: int) -> PipelineLimits:
    return PipelineLimits(
        queue_pictures=4 * batch,
        queue_bytes=1 << 30,
        stream_pictures=4 * batch,
        batch_size=batch,
        batch_wait_seconds=0.005,
        decode_threads=cores(),
    )


def _served(setting: Setting, bundle: Bundle, pipeline: Pipeline, work: Path) -> tuple[ServedProfile, dict[str, Any]]:
    """The model as the embedder would serve it, and how it computes."""
    model = load_model(for_inference(bundle), device=setting.device)
    measuring = Measuring("auto", None, cores(), max(setting.batches), 3.0)
    fastest = FastestNumerics(measuring, work / "numerics.json", pipeline.try_alone)
    chosen = fastest.choose([model], lambda: {model.profile_name: prove(model, bundle)})
    (proof,) = chosen.proofs.values()
    if not chosen.ok:
        raise RuntimeError(f"on {setting.device} 1 − cosine to the golden vectors is {proof.worst:.1e}, right is ≤ {proof.tolerance:.0e}")
    model.settle(set(chosen.threads))
    profile = ServedProfile("models/bench/versions/1", model, model.space("bench", "1"), (), chosen.threads)
    return profile, {"golden_error": proof.worst, "numerics": asdict(chosen.numerics), "threads": chosen.threads._asdict()}


def _decoding(model: PictureModel, pictures: Sequence[bytes], seconds: float) -> float:
    started, images = time.perf_counter(), 0
    with ThreadPoolExecutor(cores()) as pool:
        while (taken := time.perf_counter() - started) < seconds or not images:
            images += len(list(pool.map(model.inputs.pixels, pictures)))
    return images / taken


async def _stages(pipeline: Pipeline, profile: ServedProfile, pictures: Sequence[bytes], seconds: float) -> float:
    """Images/s of a stream, counted once half of the time has passed."""
    pipeline.start()
    stream = pipeline.open_stream(profile, None)
    begun = time.perf_counter()

    async def put() -> None:
        for sequence, data in enumerate(itertools.cycle(pictures)):
            if time.perf_counter() - begun > 1.5 * seconds:
                break
            await pipeline.put(stream, sequence, data)
        stream.end()

    putting = asyncio.create_task(put())
    arrived: list[tuple[float, int]] = []
    try:
        async for answer in stream.answers():
            if not isinstance(answer, BatchEmbedded):
                raise RuntimeError(f"a picture was refused: {answer}")
            arrived.append((time.perf_counter() - begun, len(answer.sequences)))
        await putting
    finally:
        stream.close()
        await pipeline.stop()
    warm = [each for each in arrived if each[0] > seconds / 2] or arrived
    first, last = warm[0], warm[-1]
    return sum(count for _, count in warm[1:]) / (last[0] - first[0]) if last[0] > first[0] else first[1] / first[0]
