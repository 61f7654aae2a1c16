"""`python -m benchmarks.gpu_check`: what only a CUDA device can show. Without one it says so and ends well; with one nothing is skipped.

Needs torch, timm and the sources of libs, trainer, embedder and this folder; no network, annoy or grpcio-tools.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.embedder import stages
from benchmarks.trainer import throughput
from benchmarks.trainer.jobs import coloured, run_job, write_dataset
from lookalike_model.bundle import read_bundle
from lookalike_model.embedding_model import EmbeddingModel
from lookalike_model.golden import prove
from lookalike_trainer.training.interruption import Interruption
from lookalike_trainer.worker import main as work_here

SKIPPED = "SKIPPED: no CUDA"
FASTEST_SHARE = 0.95


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the checks are.

    Attributes:
        size: pixels a side, where it does not matter; `large` where it does.
        memory: bytes that a training may take which should take more.
    """

    network: str = "resnet18"
    size: int = 64
    large: int = 224
    timed: tuple[str, ...] = ("resnet50", "seresnext50_32x4d")
    batch: int = 128
    workers: tuple[int, ...] = (0, 4, 8)
    memory: int = 3 << 30
    served: tuple[int, ...] = (32, 64, 128, 256)
    seconds: float = 5.0
    devices: tuple[str, ...] = field(default=("cpu", "cuda"))


class CheckFailed(Exception):
    """Something is not as it should be."""


def main() -> int:
    """Run every check; returns 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file for what was found")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print(SKIPPED)
        return 0
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    found, failed = run(Sizes())
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 1 if failed else 0


def run(sizes: Sizes) -> tuple[dict[str, Any], list[str]]:
    """Return what each check found, and the names of those that failed; all run, whatever one finds."""
    found: dict[str, Any] = {}
    failed = []
    checks: dict[str, Callable[[Sizes, Path], Any]] = {
        "bundles": check_bundles,
        "out of memory": check_out_of_memory,
        "speed": check_speed,
        "embedder": check_embedder,
    }
    for name, check in checks.items():
        with tempfile.TemporaryDirectory(prefix="lookalike-gpu-") as work:
            try:
                found[name] = check(sizes, Path(work))
            except Exception as error:  # the others are wanted too
                found[name] = {"failed": f"{type(error).__name__}: {error}"}
                failed.append(name)
        print(f"{'FAILED' if name in failed else 'ok'}: {name}: {json.dumps(found[name])}", flush=True)
    return found, failed


def check_bundles(sizes: Sizes, work: Path) -> dict[str, float]:
    """Train on each kind of device, and prove each bundle on every kind; returns the largest 1 − cosine of each pair."""
    dataset = write_dataset(coloured(12, 8, sizes.size), work / "data")
    worst = {}
    for made_on in sizes.devices:
        folder = work / made_on
        overrides = {"pixels.size": str(sizes.size), "loop.epochs": "3", "loop.device": made_on}
        run_job(folder, dataset, init={"kind": "random", "name": sizes.network}, overrides=overrides)
        for proved_on in sizes.devices:
            bundle = read_bundle(folder / "bundle")
            proof = prove(EmbeddingModel.load(bundle, device=proved_on), bundle)
            worst[f"{made_on} on {proved_on}"] = proof.worst
            if not proof.ok:
                raise CheckFailed(f"made on {made_on}, on {proved_on} 1 − cosine is {proof.worst:.1e}, right is ≤ {proof.tolerance:.0e}")
    return worst


def check_out_of_memory(sizes: Sizes, work: Path) -> list[str]:
    """A batch that does not fit is taken in parts, and the job ends well; returns what its events say of it."""
    dataset = write_dataset(coloured(16, 8, sizes.large), work / "data")
    overrides = {"pixels.size": str(sizes.large), "loop.epochs": "1", "loop.device": "cuda", "loop.recompute": "none"}
    overrides |= {"sampler.classes": "16", "sampler.pictures": "4", "split.held_out": "0.0"}
    job = {"kind": "train", "uid": "memory", "model": "memory", "dataset": dataset, "overrides": overrides}
    folder = work / "job"
    folder.mkdir()
    (folder / "job.json").write_text(json.dumps({**job, "init": {"kind": "random", "name": sizes.timed[0]}}), encoding="utf-8")
    with memory_of(sizes.memory):
        status = work_here(folder, Interruption())
    if status:
        raise CheckFailed(f"the job failed: {(folder / 'error.json').read_text(encoding='utf-8')}")
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    said: list[str] = [event["message"] for event in events if event["message"].startswith("OUT_OF_MEMORY")]
    if not said:
        raise CheckFailed(f"{sizes.memory >> 20} MiB were enough, so nothing was shown")
    return said


def check_speed(sizes: Sizes, work: Path) -> dict[str, Any]:
    """Pictures a second of a job and of the best plain loop, bf16 at 224 px."""
    found = {}
    for network in sizes.timed:
        setting = throughput.Setting(
            architecture=network,
            size=sizes.large,
            classes=32,
            pictures=32,
            batch=sizes.batch,
            epochs=4,
            workers=sizes.workers,
            threads=(torch.get_num_threads(),),
            sweep_steps=12,
            device=sizes.devices[-1],
            precision="bf16",
        )
        found[network] = throughput.measure(setting, work / network, lambda _line: None)
    slow = [f"{network} {each['throughput_ratio']:.2f}" for network, each in found.items() if each["throughput_ratio"] < FASTEST_SHARE]
    if slow:
        raise CheckFailed(f"share of the plain loop's speed: {', '.join(slow)}; right is ≥ {FASTEST_SHARE}: {json.dumps(found)}")
    return found


def check_embedder(sizes: Sizes, work: Path) -> dict[str, Any]:
    """Prove a network on the device as the embedder serves it; images/s of its stages from JPEGs, of network and decoding alone."""
    setting = stages.Setting(sizes.timed[0], sizes.large, device=sizes.devices[-1], batches=sizes.served, seconds=sizes.seconds)
    return stages.measure(setting, work)


@contextmanager
def memory_of(limit: int) -> Iterator[None]:
    """Inside, torch takes at most so many bytes of the device."""
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.mem_get_info()[1])
    try:
        yield
    finally:
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(1.0)


if __name__ == "__main__":
    sys.exit(main())
