"""The stream against the bare loop and against LitServe, in turns, since a machine's pace changes from minute to minute."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.embedder.bare import BareLoop, Setting, in_bf16, rate
from benchmarks.embedder.bundle import make_bundle
from benchmarks.embedder.litserve_peer import LitServeProcess, compiled_settings, settings
from benchmarks.embedder.server import EmbedderProcess
from benchmarks.embedder.stream import stream_throughput
from lookalike_model.numerics import Numerics

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

    Peers run the network as it was trained, as their users would. Where our server chose to compile it, they are measured with that
    network too, as the ratios say that end in `_compiled`.
    """
    work.mkdir()
    bundle = make_bundle(work / "bundle", architecture, plan.size)
    ours = EmbedderProcess(work / "data", bundle)
    bare = BareLoop(bundle.folder, pictures, work / "pictures")
    numerics = ours.numerics()
    peers: dict[str, LitServeProcess] = {}
    try:
        loops = _sweep_loops(bare, numerics, plan)
        servers = _sweep_litserve(bundle.folder, numerics, pictures, plan, work) if plan.litserve else {}
        chosen = {name: _final(bare, tried, plan.seconds) for name, tried in loops.items()} | {n: _best(t) for n, t in servers.items()}
        for name in servers:
            peers[name] = LitServeProcess(bundle.folder, chosen[name], work / f"{name}.log")
            peers[name].pause()
        rounds = [_round(ours, bare, {name: chosen[name] for name in loops}, peers, pictures, plan) for _ in range(plan.rounds)]
    finally:
        bare.stop()
        ours.stop()
        for peer in peers.values():
            peer.stop()
    medians = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    return {
        "architecture": architecture,
        **{f"stream_vs_{name}": medians["stream"] / medians[name] for name in chosen},
        "images_per_second": medians,
        "rounds": rounds,
        "stream": {"chosen": {**asdict(numerics), "threads": ours.batch_threads}},
        **{name: {"chosen": chosen[name], "tried": tried} for name, tried in (loops | servers).items()},
    }


def _round(
    ours: EmbedderProcess,
    bare: BareLoop,
    loops: Mapping[str, Setting],
    peers: Mapping[str, LitServeProcess],
    pictures: Sequence[bytes],
    plan: Plan,
) -> dict[str, float]:
    told = {name: bare.measure(setting, plan.seconds) for name, setting in loops.items()}
    streamed = stream_throughput(ours.address, pictures, 1, plan.seconds / 2, plan.seconds)
    told |= {"stream": streamed.images_per_second, "stream_batch_size": streamed.batch_size}
    for name, peer in peers.items():
        peer.resume()
        told[name] = peer.throughput(pictures, plan.clients, plan.seconds / 2, plan.seconds)
        peer.pause()
    return told


def _sweep_loops(bare: BareLoop, numerics: Numerics, plan: Plan) -> dict[str, list[Setting]]:
    swept = {"bare": bare.sweep(plan.batches, plan.threads, plan.seconds / 2)}
    if numerics.compiled:
        swept["bare_compiled"] = bare.sweep_compiled(plan.batches, plan.threads, numerics.precision, plan.seconds / 2)
    return swept


def _final(bare: BareLoop, tried: Sequence[Setting], seconds: float) -> Setting:
    finalists = sorted(tried, key=rate, reverse=True)[:_FINALISTS]
    return max(({**setting, "images_per_second": bare.measure(setting, seconds)} for setting in finalists), key=rate)


def _sweep_litserve(bundle: Path, numerics: Numerics, pictures: Sequence[bytes], plan: Plan, work: Path) -> dict[str, list[Setting]]:
    def measured(setting: Setting) -> Setting:
        server = LitServeProcess(bundle, setting, work / "tried.log")
        try:
            images_per_second = server.throughput(pictures, plan.clients, plan.seconds / 2, plan.seconds / 2)
        finally:
            server.stop()
        return {**setting, "images_per_second": images_per_second}

    tried = [measured(setting) for setting in settings(max(plan.threads), [1, *plan.batches])]
    swept = {"litserve": [*tried, *map(measured, in_bf16(tried, _LITSERVE_TRIED_IN_BF16))]}
    if numerics.compiled:
        asked = compiled_settings(max(plan.threads), plan.batches, numerics.precision)
        swept["litserve_compiled"] = [measured(setting) for setting in asked]
    return swept


def _best(tried: Sequence[Setting]) -> Setting:
    return max(tried, key=rate)
