"""`python -m benchmarks.embedder`: the embedder against the bare network and LitServe, under overload, and for long."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# As the server has it, for peers too: a network in this process would else take cores for milliseconds after its end. Read when torch
# is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")

from benchmarks.embedder import latency, overload, scaled_decoding, soak
from benchmarks.embedder.bundle import make_bundle
from benchmarks.embedder.pictures import jpegs
from benchmarks.embedder.report import missed, report
from benchmarks.embedder.server import EmbedderProcess
from benchmarks.embedder.throughput import Plan, compare
from benchmarks.process import end_servers_when_ended
from lookalike_embedder.allocator import keep_freed_memory
from lookalike_model.cores import cores


def main() -> int:
    """Run, report, and return 1 if a bound was missed."""
    keep_freed_memory()
    end_servers_when_ended()
    asked = _arguments(sys.argv[1:])
    document = run(asked)
    report(asked.out, document)
    return 1 if missed(document) else 0


def run(asked: argparse.Namespace) -> dict[str, Any]:
    """Return what each part measured."""
    work = Path(tempfile.mkdtemp(prefix="lookalike-bench-"))
    started = time.monotonic()
    document: dict[str, Any] = {"asked": {name: str(value) for name, value in vars(asked).items()}}
    try:
        pictures = jpegs(asked.count, asked.side, asked.pictures)
        plan = Plan(asked.seconds, asked.rounds, asked.batches, sorted({1, cores()}), asked.size, asked.clients, asked.litserve)
        for name, architecture in (("big", asked.big), ("small", asked.small)):
            _tell(f"throughput of {architecture}")
            document[name] = compare(architecture, pictures, plan, work / name)
        document |= _one_server(asked, pictures, work / "server")
        _tell("scaled decoding")
        document["scaled_decoding"] = scaled_decoding.measure(asked.scaled_sides, (1, 2, 4), 6, asked.pictures)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return {**document, "seconds": round(time.monotonic() - started, 1)}


def _one_server(asked: argparse.Namespace, pictures: list[bytes], work: Path) -> dict[str, Any]:
    """Measure what one server with the small network does."""
    work.mkdir()
    bundle = make_bundle(work / "bundle", asked.small, asked.size)
    ours = EmbedderProcess(work / "data", bundle)
    try:
        told: dict[str, Any] = {}
        overhead = latency.Overhead(ours, bundle, pictures, asked.calls)
        _tell("latency")
        overhead.turn()
        told["concurrency"] = latency.against_concurrency(ours, pictures, asked.callers, asked.seconds)
        overhead.turn()
        _tell("interactive calls beside a stream")
        told["beside_bulk"] = overload.beside_bulk(ours, pictures, asked.overload_seconds)
        overhead.turn()
        _tell("overload")
        told["overload"] = overload.overload(ours, pictures, asked.overload_seconds, asked.overload_seconds)
        overhead.turn()
        _tell("soak")
        told["soak"] = soak.soak(ours, pictures, asked.soak_warm_seconds, asked.soak_seconds)
        overhead.turn()
        told["unary"] = overhead.told()
    finally:
        ours.stop()
    return told


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench-embedder"))
    parser.add_argument("--pictures", type=Path, help="folder of pictures; without it crops of scikit-learn's two photographs")
    parser.add_argument("--count", type=int, default=256, help="pictures")
    parser.add_argument("--side", type=int, default=500, help="their pixels a side")
    parser.add_argument("--size", type=int, default=224, help="pixels a side that the networks take")
    parser.add_argument("--big", default="resnet50", help="timm's name of the big network")
    parser.add_argument("--small", default="tf_efficientnet_lite0", help="timm's name of the small network")
    parser.add_argument("--batches", type=int, nargs="+", default=[4, 8, 16, 32], help="batch sizes of the sweeps")
    parser.add_argument("--clients", type=int, default=64, help="clients of LitServe")
    parser.add_argument("--no-litserve", dest="litserve", action="store_false", help="leave LitServe out")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5, help="turns of bare loop, stream and LitServe")
    parser.add_argument("--calls", type=int, default=300, help="single calls on an idle server, in each of five turns")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32], help="concurrent callers")
    parser.add_argument("--overload-seconds", type=float, default=60)
    parser.add_argument("--soak-seconds", type=float, default=900)
    parser.add_argument("--soak-warm-seconds", type=float, default=60)
    parser.add_argument("--scaled-sides", type=int, nargs="+", default=[500, 1000, 2000, 3500], help="pixels a side of scaled JPEGs")
    return parser.parse_args(words)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
