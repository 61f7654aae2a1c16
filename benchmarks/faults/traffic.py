"""Mixed traffic: writes that a ledger accounts for, searches that must see them, builds and activations of earlier ones."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import grpc
import numpy as np

from benchmarks.faults.ledger import Ledger
from benchmarks.faults.server import DIM, NAME, Server, Value
from lookalike_protos.indexer.v1 import builds_pb2

_Changed = TypeVar("_Changed", Value, None)

_IDS = 2_000
_LARGEST_CHUNK = 80


def random_values(rng: np.random.Generator, ids: Sequence[str], label: str) -> dict[str, Value]:
    """Return a random vector for each id."""
    vectors = rng.standard_normal((len(ids), DIM)).astype("<f4")
    return {each: Value(label, vector.tobytes()) for each, vector in zip(ids, vectors, strict=True)}


class Traffic:
    """Three threads that end when the server does."""

    def __init__(self, server: Server, ledger: Ledger, seed: int) -> None:
        self.unseen: list[str] = []
        self.searches = 0
        self._server = server
        self._ledger = ledger
        self._random = random.Random(seed)
        self._rng = np.random.default_rng(seed)
        self._acknowledged = threading.Event()
        self._threads = [threading.Thread(target=self._until_the_end, args=(each,)) for each in (self._write, self._search, self._build)]
        for thread in self._threads:
            thread.start()

    def wait_for_writes(self) -> None:
        """Return once something was acknowledged."""
        self._acknowledged.wait(60)

    def join(self) -> None:
        """Wait until every thread has noticed that the server is gone."""
        for thread in self._threads:
            thread.join(60)

    def _until_the_end(self, work: Callable[[], None]) -> None:
        try:
            while True:
                work()
        except (grpc.RpcError, ValueError):  # ValueError: the channel was closed
            pass

    def _write(self) -> None:
        kind = self._random.random()
        if kind < 0.7 or not self._ledger.kept:
            self._acknowledge(self._upserted(), self._server.upsert)
        elif kind < 0.85:
            ids = self._some_kept()
            self._acknowledge(dict.fromkeys(ids), lambda _: self._server.delete(ids))
        else:
            label = f"relabelled {self._random.randrange(1000)}"
            changed = {each: Value(label, self._ledger.kept[each].vector) for each in self._some_kept()}
            self._acknowledge(changed, lambda _: self._server.label(list(changed), label))

    def _upserted(self) -> dict[str, Value]:
        ids = {f"i{self._random.randrange(_IDS):04d}" for _ in range(self._random.randint(1, _LARGEST_CHUNK))}
        return random_values(self._rng, sorted(ids), f"label {self._random.randrange(20)}")

    def _some_kept(self) -> list[str]:
        return self._random.sample(sorted(self._ledger.kept), min(len(self._ledger.kept), self._random.randint(1, 8)))

    def _acknowledge(self, change: dict[str, _Changed], call: Callable[[dict[str, _Changed]], object]) -> None:
        each, value = self._random.choice(list(change.items()))
        vector = np.frombuffer((value or self._ledger.kept[each]).vector, "<f4")
        self._ledger.begin(change)
        call(change)
        self._ledger.acknowledge()
        self._acknowledged.set()
        # Read your writes: what was just acknowledged is found, what was just deleted is not.
        (hits,) = self._server.found(vector[None], 50)
        if (each in hits) != (value is not None):
            self.unseen.append(each)

    def _search(self) -> None:
        queries = self._rng.standard_normal((4, DIM)).astype(np.float32)
        self._server.found(queries, 10, exact=self._random.random() < 0.2)
        self.searches += 1

    def _build(self) -> None:
        self._acknowledged.wait()
        try:
            self._server.build(trees=self._random.randint(2, 10))
            builds = self._server.builds.ListBuilds(builds_pb2.ListBuildsRequest(parent=NAME)).builds
            earlier = [build.name for build in builds if build.kept]
            if earlier and self._random.random() < 0.3:
                self._server.builds.ActivateBuild(builds_pb2.ActivateBuildRequest(name=self._random.choice(earlier)))
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:  # another build is under way, or nothing is there to build of
                raise
