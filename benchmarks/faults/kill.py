"""kill -9 at random moments, then a comparison with what was acknowledged."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.ledger import Ledger, Verdict
from benchmarks.faults.server import NAME, Server
from benchmarks.faults.traffic import Traffic, random_values
from lookalike_protos.indexer.v1 import builds_pb2
from lookalike_protos.types.v1 import operations_pb2

Tell = Callable[[str], None]

_SEARCHED = 30
_LONGEST_SECONDS = 1.2
# Stages of a build, in their order, before which or in which it is killed.
STAGES = ("", "snapshot", "augment", "index", "measure")


@dataclass
class Findings:
    """Sums over all rounds; everything but the first four must be 0."""

    rounds: int = 0
    acknowledged: int = 0
    in_flight_kills: int = 0
    searches: int = 0
    lost: int = 0
    resurrected: int = 0
    torn: int = 0
    strange: int = 0
    unfindable: int = 0
    found_though_deleted: int = 0
    unseen_at_once: int = 0
    debris: int = 0
    details: list[str] = field(default_factory=list)

    def add(self, verdict: Verdict) -> None:
        self.lost += len(verdict.lost)
        self.resurrected += len(verdict.resurrected)
        self.torn += len(verdict.torn)
        self.strange += len(verdict.strange)
        if not verdict.clean:
            self.details.append(f"round {self.rounds}: {verdict}"[:500])

    def document(self) -> dict[str, Any]:
        return dict(vars(self))


def kill9(work: Path, rounds: int, seed: int, tell: Tell) -> dict[str, Any]:
    """Kill a server under mixed traffic `rounds` times on one data folder in `work`."""
    findings, ledger, chance = Findings(), Ledger(), random.Random(seed)
    server = Server(work / "data")
    server.create()
    for round_ in range(rounds):
        findings.rounds += 1
        traffic = Traffic(server, ledger, seed + round_)
        traffic.wait_for_writes()
        time.sleep(chance.random() * _LONGEST_SECONDS)
        server.kill()
        traffic.join()
        findings.searches += traffic.searches
        findings.unseen_at_once += len(traffic.unseen)
        findings.in_flight_kills += bool(ledger.under_way)
        server = Server(work / "data")
        _compare(server, ledger, findings, chance)
        tell(f"kill -9: round {round_ + 1} of {rounds}, {ledger.acknowledged:,} writes acknowledged, {findings.lost} lost")
    server.kill()
    findings.acknowledged = ledger.acknowledged
    return findings.document()


def kill9_during_build(work: Path, rounds: int, seed: int, tell: Tell) -> dict[str, Any]:
    """Kill a server `rounds` times while a build is under way, in each of its stages by turns."""
    findings, ledger, chance = Findings(), Ledger(), random.Random(seed)
    stages: Counter[str] = Counter()
    server = Server(work / "data")
    server.create()
    for round_ in range(rounds):
        findings.rounds += 1
        _write(server, ledger, np.random.default_rng(seed + round_))
        before = server.collection().active_build
        build = server.begin_build(trees=chance.randint(20, 60), dba=3)
        stages[_wait_for(server, build.name, STAGES[round_ % len(STAGES)])] += 1
        time.sleep(chance.random() * 0.05)
        server.kill()
        server = Server(work / "data")
        _compare(server, ledger, findings, chance)
        _check_builds(server, build.name, before, findings)
        if round_ % 5 == 0 and server.build(trees=5).state != operations_pb2.STATE_SUCCEEDED:
            findings.details.append(f"round {round_}: no build succeeds any more")
        tell(f"kill -9 during a build: round {round_ + 1} of {rounds}")
    server.kill()
    findings.acknowledged = ledger.acknowledged
    return {**findings.document(), "stages": dict(stages)}


def _write(server: Server, ledger: Ledger, rng: np.random.Generator) -> None:
    """Write 300 items anew, and delete some."""
    values = random_values(rng, [f"i{number:04d}" for number in rng.choice(2_000, 300, replace=False)], "built")
    ledger.begin(values)
    server.upsert(values)
    ledger.acknowledge()
    gone = sorted(ledger.kept)[:20]
    ledger.begin(dict.fromkeys(gone))
    server.delete(gone)
    ledger.acknowledge()


def _wait_for(server: Server, build: str, stage: str) -> str:
    """Return the stage that the build has reached: `stage`, or what came instead."""
    for seen in server.watch(build):
        if seen == stage or stage == "":
            return seen or "queued"
    return "ended"


def _check_builds(server: Server, name: str, before: str, findings: Findings) -> None:
    build = server.builds.GetBuild(builds_pb2.GetBuildRequest(name=name))
    active = server.collection().active_build
    expected = name if build.state == operations_pb2.STATE_SUCCEEDED else before
    if build.state in (operations_pb2.STATE_PENDING, operations_pb2.STATE_RUNNING):
        # One that had not begun is made by the next server.
        for _ in server.watch(name):
            pass
        active, expected = server.collection().active_build, name
    if active != expected:
        findings.details.append(f"{active or 'no build'} is active instead of {expected or 'none'}")
    kept = {each.name.rsplit("/", 1)[1] for each in server.builds.ListBuilds(builds_pb2.ListBuildsRequest(parent=NAME)).builds if each.kept}
    findings.debris += len({path.name for path in (server.folder() / "builds").iterdir()} ^ kept)


def _compare(server: Server, ledger: Ledger, findings: Findings, chance: random.Random) -> None:
    """Hold the store and the searches of a restarted server against the ledger."""
    gone = sorted(ledger.gone)
    findings.add(ledger.settle(server.stored()))
    kept = chance.sample(sorted(ledger.kept), min(_SEARCHED, len(ledger.kept)))
    if not kept:
        return
    queries = np.stack([np.frombuffer(ledger.kept[each].vector, "<f4") for each in kept])
    for exact in (False, True):
        hits = server.found(queries, 50, exact=exact)
        findings.unfindable += sum(each not in found for each, found in zip(kept, hits, strict=True))
        findings.found_though_deleted += sum(each in found for found in hits for each in gone if each not in ledger.kept)
