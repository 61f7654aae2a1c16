"""The stream against the bare loop and against LitServe, in turns, since a machine's pace changes from minute to minute."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.embedder.bare import BareLoop, Setting, in_bf16, rate
from benchmarks.embedder.bundle import make_bundle
from benchmarks.embedder.litserve_peer import LitServeProcess, settings
from benchmarks.embedder.server import EmbedderProcess
from benchmarks.embedder.stream import stream_throughput

# So many of the fastest settings of a sweep are measured again, since the fastest of many is partly the luckiest.
_FINALISTS = 3
_LITSERVE_TRIED_IN_BF16 = 4


@dataclass(frozen=True)
class Plan:
    """How long and with what is measured.

    Attributes:
        seconds: of each measurement; settings of a sweep have half of it.
        rounds: turns of bare loop, stream and LitServe.
        clients: of LitServe, each with one picture under way; the streams have as many and more.
        litserve: whether it is measured.
    """

    seconds: float
    rounds: int
    batches: Sequence[int]
    threads: Sequence[int]
    size: int
    clients: int
    litserve: bool


def compare(architecture: str, pictures: Sequence[bytes], plan: Plan, work: Path) -> dict[str, Any]:
    """Return images/s of all, and the ratios of their medians over turns.

    Our server folds batch norms into convolutions, which no plain network does: the bare loop is measured with that too.
    """
    work.mkdir()
    bundle = make_bundle(work / "bundle", architecture, plan.size)
    ours = EmbedderProcess(work / "data", bundle)
    bare = BareLoop(bundle.folder, pictures, work / "pictures")
    peer: LitServeProcess | None = None
    try:
        numerics = {**asdict(ours.numerics()), "threads": ours.batch_threads}
        bare.sweep(plan.batches, plan.threads, plan.seconds / 2)
        chosen = _final(bare, plan.seconds)
        tried = _sweep_litserve(bundle.folder, pictures, plan, work) if plan.litserve else []
        if tried:
            peer = LitServeProcess(bundle.folder, _best(tried), work / "litserve.log")
            peer.pause()
        rounds = [_round(ours, bare, chosen, peer, pictures, plan) for _ in range(plan.rounds)]
    finally:
        bare.stop()
        ours.stop()
        if peer is not None:
            peer.stop()
    medians = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    return {
        "architecture": architecture,
        "stream_vs_bare": medians["stream"] / medians["bare"],
        "stream_vs_folded_bare": medians["stream"] / medians["bare_folded"],
        "stream_vs_litserve": medians["stream"] / medians["litserve"] if "litserve" in medians else None,
        "images_per_second": medians,
        "rounds": rounds,
        "stream": {"chosen": numerics},
        "bare": {"chosen": chosen, "tried": bare.tried},
        "litserve": {"chosen": _best(tried) if tried else None, "tried": tried},
    }


def _round(
    ours: EmbedderProcess, bare: BareLoop, chosen: Setting, peer: LitServeProcess | None, pictures: Sequence[bytes], plan: Plan
) -> dict[str, float]:
    told = {"bare": bare.measure(chosen, plan.seconds), "bare_folded": bare.measure({**chosen, "folded": True}, plan.seconds)}
    streamed = stream_throughput(ours.address, pictures, 1, plan.seconds / 2, plan.seconds)
    told |= {"stream": streamed.images_per_second, "stream_batch_size": streamed.batch_size}
    if peer is not None:
        peer.resume()
        told["litserve"] = peer.throughput(pictures, plan.clients, plan.seconds / 2, plan.seconds)
        peer.pause()
    return told


def _final(bare: BareLoop, seconds: float) -> Setting:
    finalists = sorted(bare.tried, key=rate, reverse=True)[:_FINALISTS]
    return max(({**setting, "images_per_second": bare.measure(setting, seconds)} for setting in finalists), key=rate)


def _sweep_litserve(bundle: Path, pictures: Sequence[bytes], plan: Plan, work: Path) -> list[Setting]:
    def measured(setting: Setting) -> Setting:
        server = LitServeProcess(bundle, setting, work / "litserve.log")
        try:
            images_per_second = server.throughput(pictures, plan.clients, plan.seconds / 2, plan.seconds / 2)
        finally:
            server.stop()
        return {**setting, "images_per_second": images_per_second}

    tried = [measured(setting) for setting in settings(max(plan.threads), [1, *plan.batches])]
    return [*tried, *map(measured, in_bf16(tried, _LITSERVE_TRIED_IN_BF16))]


def _best(tried: Sequence[Setting]) -> Setting:
    return max(tried, key=rate)
