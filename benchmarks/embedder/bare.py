"""The best loop without a server: threads decode, the network runs, in one process.

`python -m benchmarks.embedder.bare BUNDLE PICTURES ALLOCATOR` reads settings and prints images/s.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from lookalike_embedder.allocator import keep_freed_memory
from lookalike_images import decode, preprocess
from lookalike_model.bundle import Bundle, read_bundle
from lookalike_model.embedding_model import EmbeddingModel
from lookalike_model.numerics import Numerics, Precision

# Batches that are decoded ahead.
_AHEAD = 2
# So many of the fastest settings of a sweep are tried in bf16 too: in both, all of them would take twice as long.
_TRIED_IN_BF16 = 8
FORMATS = ("nchw", "nhwc")

ALLOCATORS = ("default", "kept")

Setting = dict[str, Any]
Batch = Sequence[NDArray[np.uint8]]


class BareProcess:
    """Runs the loop with any setting in a process of its own, one for each allocator."""

    def __init__(self, bundle: Path, pictures: Path, allocator: str) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        command = [sys.executable, "-m", "benchmarks.embedder.bare", str(bundle), str(pictures), allocator]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def throughput(self, setting: Setting, seconds: float) -> float:
        """Return images/s from encoded bytes to vectors."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({**setting, "seconds": seconds}), file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def stop(self) -> None:
        """End it."""
        self._process.communicate("")


class BareLoop:
    """The loop with any setting."""

    def __init__(self, bundle: Path, pictures: Sequence[bytes], folder: Path) -> None:
        """`folder` must not exist; the pictures are written into it."""
        folder.mkdir()
        for number, data in enumerate(pictures):
            (folder / f"{number:05d}.jpg").write_bytes(data)
        self._processes = {allocator: BareProcess(bundle, folder, allocator) for allocator in ALLOCATORS}

    def sweep(self, batches: Sequence[int], threads: Sequence[int], seconds: float) -> list[Setting]:
        """Return threads × batch × memory format × allocator with the network as trained, the fastest in bf16 too, with their images/s."""
        tried: list[Setting] = []
        for allocator, memory_format, torch_threads, decode_threads, batch in itertools.product(
            ALLOCATORS, FORMATS, threads, threads, batches
        ):
            setting: Setting = {"torch_threads": torch_threads, "decode_threads": decode_threads, "batch": batch}
            setting |= {"format": memory_format, "allocator": allocator, "precision": "fp32", "compiled": False}
            tried.append(self._measured(setting, seconds))
        return [*tried, *(self._measured(setting, seconds) for setting in in_bf16(tried, _TRIED_IN_BF16))]

    def sweep_compiled(self, batches: Sequence[int], threads: Sequence[int], precision: Precision, seconds: float) -> list[Setting]:
        """Return threads × batch with the network as our server compiles it, with their images/s."""
        return [
            self._measured(
                {
                    "torch_threads": torch_threads,
                    "decode_threads": max(threads),
                    "batch": batch,
                    "allocator": "kept",
                    "precision": precision,
                    "compiled": True,
                },
                seconds,
            )
            for torch_threads, batch in itertools.product(threads, batches)
        ]

    def measure(self, setting: Setting, seconds: float) -> float:
        """Return images/s with a setting."""
        return self._processes[setting["allocator"]].throughput(setting, seconds)

    def stop(self) -> None:
        """End the processes."""
        for process in self._processes.values():
            process.stop()

    def _measured(self, setting: Setting, seconds: float) -> Setting:
        return {**setting, "images_per_second": self.measure(setting, seconds)}


def rate(setting: Setting) -> float:
    """Return the images/s that were measured with a setting."""
    return float(setting["images_per_second"])


def in_bf16(tried: Sequence[Setting], count: int) -> list[Setting]:
    """Return the `count` fastest settings that were tried, in bf16 instead."""
    fastest = sorted(tried, key=rate, reverse=True)[:count]
    return [{**{name: value for name, value in each.items() if name != "images_per_second"}, "precision": "bf16"} for each in fastest]


def throughput(bundle: Bundle, pictures: Sequence[bytes], setting: Setting, seconds: float) -> float:
    """Return images/s from encoded bytes to vectors."""
    torch.set_num_threads(setting["torch_threads"])
    embed = _compiled(bundle, setting) if setting["compiled"] else _plain(bundle, setting)

    def pixels_of(data: bytes) -> NDArray[np.uint8]:
        return preprocess(decode(data), bundle.preprocessing)

    with ThreadPoolExecutor(setting["decode_threads"]) as pool:
        batches = _decoded(pool, pixels_of, itertools.cycle(pictures), setting["batch"])
        embed(next(batches))
        started, images = time.perf_counter(), 0
        while (taken := time.perf_counter() - started) < seconds:
            embed(next(batches))
            images += setting["batch"]
        pool.shutdown(cancel_futures=True)
    return images / taken


def _plain(bundle: Bundle, setting: Setting) -> Callable[[Batch], None]:
    numerics, device = Numerics(setting["precision"], setting["format"] == "nhwc"), torch.device("cpu")
    network = bundle.network.eval().to(memory_format=numerics.memory_format)

    @torch.inference_mode()
    def embed(batch: Batch) -> None:
        images = network.to_input(torch.from_numpy(np.stack(batch))).contiguous(memory_format=numerics.memory_format)
        with numerics.applied(device):
            pooled = network(images)["pool"]
        normalize(pooled.float(), dim=1).numpy()

    return embed


def _compiled(bundle: Bundle, setting: Setting) -> Callable[[Batch], None]:
    model = EmbeddingModel.load(bundle)
    model.use(Numerics(setting["precision"], compiled=True))

    def embed(batch: Batch) -> None:
        model.embed(np.stack(batch))

    return embed


def _decoded(
    pool: ThreadPoolExecutor, pixels_of: Callable[[bytes], NDArray[np.uint8]], pictures: Iterator[bytes], batch: int
) -> Iterator[list[NDArray[np.uint8]]]:
    waiting: deque[list[Future[NDArray[np.uint8]]]] = deque()
    while True:
        while len(waiting) <= _AHEAD:
            waiting.append([pool.submit(pixels_of, data) for data in itertools.islice(pictures, batch)])
        yield [each.result() for each in waiting.popleft()]


def main() -> int:
    """Measure each setting that comes in as a line of JSON, until there are no more."""
    bundle_folder, pictures_folder, allocator = sys.argv[1:]
    if allocator == "kept":
        keep_freed_memory()
    bundle = read_bundle(Path(bundle_folder))
    pictures = [path.read_bytes() for path in sorted(Path(pictures_folder).iterdir())]
    for line in sys.stdin:
        setting = json.loads(line)
        print(throughput(bundle, pictures, setting, setting["seconds"]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
