"""Each file of a build truncated, emptied, bit-flipped and taken away in turn: noticed at the start, searched around, built anew."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.ledger import Ledger
from benchmarks.faults.server import Server
from benchmarks.faults.traffic import random_values
from lookalike_protos.types.v1 import operations_pb2

ITEMS = 400


def corrupt(work: Path, seed: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Damage a copy of a data folder in `work` in every way, and start a server on each."""
    ledger, chance = Ledger(), random.Random(seed)
    files = _make(work / "whole", ledger, seed)
    cases: list[dict[str, Any]] = []
    for file in files:
        for name, damage in _DAMAGES.items():
            shutil.copytree(work / "whole", work / "damaged" / "data")
            (path,) = (work / "damaged" / "data").glob(f"indexer/collections/*/builds/*/{file}")
            damage(path, chance)
            cases.append({"file": file, "damage": name, **_looked_at(work / "damaged" / "data", ledger)})
            shutil.rmtree(work / "damaged")
            tell(f"damaged files: {file}, {name}")
    return {
        "files": files,
        "cases": cases,
        "noticed": sum(case["noticed"] for case in cases),
        "right_answers": sum(case["right"] for case in cases),
        "built_anew": sum(case["built_anew"] for case in cases),
        "lost": sum(case["lost"] for case in cases),
    }


def _make(data: Path, ledger: Ledger, seed: int) -> list[str]:
    """Make a collection with a build, and return the names of the build's files."""
    data.parent.mkdir(parents=True, exist_ok=True)
    server = Server(data)
    server.create()
    values = random_values(np.random.default_rng(seed), [f"c{number:04d}" for number in range(ITEMS)], "whole")
    ledger.begin(values)
    server.upsert(values)
    ledger.acknowledge()
    build = server.build(trees=10, dba=3)
    if build.state != operations_pb2.STATE_SUCCEEDED:
        raise RuntimeError(f"the build that is to be damaged did not succeed: {build.error.message}")
    folder = server.folder() / "builds"
    files = sorted(path.name for path in next(folder.iterdir()).iterdir())
    if server.stop():
        raise RuntimeError("the server did not end well")
    return files


def _truncate(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(len(content))])


def _empty(path: Path, chance: random.Random) -> None:  # noqa: ARG001
    path.write_bytes(b"")


def _flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def _remove(path: Path, chance: random.Random) -> None:  # noqa: ARG001
    path.unlink()


_DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "truncated": _truncate,
    "emptied": _empty,
    "one bit flipped": _flip,
    "another bit flipped": _flip,
    "removed": _remove,
}


def _looked_at(data: Path, ledger: Ledger) -> dict[str, Any]:
    server = Server(data)
    try:
        ids = sorted(ledger.kept)[::40]
        right = server.found(np.stack([np.frombuffer(ledger.kept[each].vector, "<f4") for each in ids]), 1) == [[each] for each in ids]
        noticed = server.collection().active_build == ""
        lost = len(ledger.settle(server.stored()).lost)
        built = server.build(trees=5).state == operations_pb2.STATE_SUCCEEDED and server.collection().active_build != ""
        return {"noticed": noticed, "right": right, "lost": lost, "built_anew": built}
    finally:
        server.kill()
