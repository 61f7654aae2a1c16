"""Memory and time of two-pass mining, against a plain batch of as many pictures as it runs with gradients.

python -m benchmarks.trainer.two_pass [--architecture NAME] [--device cuda]

Each case runs in a process of its own, through the trainer's own loop. Memory is the peak above what was there before the
first step: anonymous memory on the CPU, `max_memory_allocated` on CUDA.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from lookalike_model.network import RetrievalNetwork
from lookalike_model.spec import ChannelStatistics, EmbeddingSpec, NetworkSpec
from lookalike_trainer.training.allocator import keep_freed_memory
from lookalike_trainer.training.batches import TrainingData
from lookalike_trainer.training.interruption import Interruption
from lookalike_trainer.training.job import Start
from lookalike_trainer.training.loop import Trainer
from lookalike_trainer.training.pixels import PixelStore
from lookalike_trainer.training.recipe_files import load_recipe
from lookalike_trainer.training.resolve import Device, PixelPlan, ResolvedRecipe
from lookalike_trainer.training.sampler import ClassBalancedSampler

Case = Literal["plain", "two_pass", "full_graph"]
"""plain: anchors, positives and negatives alone; full_graph: mining in all of the batch, all of it with gradients."""

_MINING: dict[Case, str] = {"plain": "batch_hard", "two_pass": "two_pass", "full_graph": "batch_hard"}
_TRIPLET = 3


@dataclass(frozen=True, slots=True)
class Setting:
    """What is measured.

    Attributes:
        size: pixels a side.
        classes, pictures: P and K.
        steps: run, all of them timed.
    """

    architecture: str = "resnet18"
    size: int = 64
    classes: int = 96
    pictures: int = 12
    steps: int = 2
    device: Device = "cpu"


@dataclass(frozen=True, slots=True)
class Figures:
    """Peak in bytes above the start, and mean seconds a step."""

    peak_bytes: int
    seconds_per_step: float


def measure(setting: Setting, case: Case) -> Figures:
    """Run a case in a process of its own.

    Raises:
        RuntimeError: it failed; the message is what it said.
    """
    arguments = [f"--{name}={value}" for name, value in asdict(setting).items()]
    command = [sys.executable, "-m", "benchmarks.trainer.two_pass", f"--case={case}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{case} failed: {done.stderr[-2000:]}")
    return Figures(**json.loads(done.stdout))


def memory_ratio(setting: Setting) -> float:
    """Peak of two-pass mining over that of the plain batch of the triplets it chooses."""
    return measure(setting, "two_pass").peak_bytes / measure(setting, "plain").peak_bytes


def run(setting: Setting, case: Case) -> Figures:
    """Run a case in this process."""
    keep_freed_memory()
    trainer, network = _trainer(setting, case)
    state = trainer.begin(network)
    started = time.monotonic()
    with _peak(setting.device) as peak:
        for _ in range(setting.steps):
            trainer.run_epoch(state, lambda _done, _total: None)
            state.conclude_epoch({})
    return Figures(peak[0], (time.monotonic() - started) / setting.steps)


def _trainer(setting: Setting, case: Case) -> tuple[Trainer, RetrievalNetwork]:
    """A loop whose epochs are one step: there are just as many pictures as a batch has."""
    pictures = _TRIPLET if case == "plain" else setting.pictures
    overrides = {"objective.triplet.mining": _MINING[case], "sampler.classes": str(setting.classes), "sampler.pictures": str(pictures)}
    spec = NetworkSpec(architecture=setting.architecture, embedding=EmbeddingSpec(size=512))
    resolved = ResolvedRecipe(
        name="triplet-two-pass",
        recipe=load_recipe("triplet-two-pass", overrides),
        start=Start(kind="random", name=setting.architecture),
        seed=0,
        network=spec,
        pixels=PixelPlan(serving=setting.size, phases=(setting.size,)),
        classes_per_batch=setting.classes,
        pictures_per_class=pictures,
        epochs=setting.steps,
        device=setting.device,
        threads=torch.get_num_threads(),
    )
    torch.manual_seed(0)
    network = RetrievalNetwork(spec, ChannelStatistics(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
    return Trainer(resolved, _data(setting, pictures), Interruption()), network


def _data(setting: Setting, pictures: int) -> TrainingData:
    labels = np.repeat(np.arange(setting.classes), pictures)
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), setting.size, setting.size, 3), dtype=np.uint8)
    rows = {label: np.flatnonzero(labels == label) for label in range(setting.classes)}
    sampler = ClassBalancedSampler(rows, setting.classes, pictures)
    return TrainingData(PixelStore({setting.size: pixels}, [], []), labels, sampler)


@contextmanager
def _peak(device: Device) -> Iterator[list[int]]:
    """A list whose first entry is the peak above the start, once the block is left."""
    peak = [0]
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        start = torch.cuda.memory_allocated()
        yield peak
        peak[0] = torch.cuda.max_memory_allocated() - start
        return
    start, ended = _anonymous_bytes(), threading.Event()

    def watch() -> None:
        while not ended.wait(0.001):
            peak[0] = max(peak[0], _anonymous_bytes() - start)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


def _anonymous_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this kernel does not tell a process's anonymous memory")


def main() -> None:
    """Measure one case in this process, or each in its own, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=get_args(Case))
    for name, value in asdict(Setting()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    values = vars(parser.parse_args())
    case: Case | None = values.pop("case")
    setting = Setting(**values)
    if case:
        print(json.dumps(asdict(run(setting, case))))
        return
    figures = {each: measure(setting, each) for each in get_args(Case)}
    ratio = figures["two_pass"].peak_bytes / figures["plain"].peak_bytes
    print(json.dumps({"two_pass_memory_ratio": ratio, **{each: asdict(found) for each, found in figures.items()}}, indent=1))


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
