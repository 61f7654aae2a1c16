"""`python -m benchmarks.indexer`: everything that is measured of the indexer, and its report, written anew after each part."""

from __future__ import annotations

import argparse
import os

# Before numpy is there: one thread each, peers and we.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.indexer import beside_build, dba, growth, live_dba, over_grpc, rank, search, upserts
from benchmarks.indexer.contenders import Vectors
from benchmarks.indexer.report import write
from benchmarks.indexer.vectors import drawn, real
from benchmarks.process import end_servers_when_ended


@dataclass(frozen=True)
class Scale:
    """How much is measured. `pictures` holds class folders for real vectors, which are kept in `cache`; without pictures there are none."""

    items: int = 50_000
    dim: int = 2_048
    growth: tuple[int, ...] = (10_000, 50_000, 200_000)
    references: int = 36_748
    queries: int = 18_027
    upserts: int = 8_192
    repeats: int = 3
    idle_seconds: float = 20.0
    sweep: search.Sweep = field(default_factory=search.Sweep)
    pictures: Path = Path("out/demo/data")
    cache: Path = Path("out/bench-indexer/real.npz")


PARTS = ("search", "grpc", "growth", "dba", "rank", "upserts", "live", "beside")


def run(scale: Scale, parts: tuple[str, ...], out: Path) -> dict[str, Any]:
    """Measure `parts`, and write the report into `out` after each; returns the document."""
    document: dict[str, Any] = {"scale": {name: str(value) for name, value in vars(scale).items()}}
    for part in parts:
        started = time.monotonic()
        print(f"{part} …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as work:
            document[part] = _MEASURES[part](scale, Path(work))
        print(f"{part}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        write(out, document)
    return document


def _search(scale: Scale, work: Path) -> dict[str, Any]:
    data_sets = {"drawn": drawn(scale.items, scale.dim).vectors}
    if (real_vectors := _real(scale)) is not None:
        data_sets["real"] = real_vectors
    return search.measure(data_sets, work, scale.sweep)


def _grpc(scale: Scale, work: Path) -> dict[str, Any]:
    return over_grpc.measure_grpc(drawn(scale.items, scale.dim).vectors, work)


def _growth(scale: Scale, work: Path) -> dict[str, Any]:
    return growth.measure_growth(scale.growth, work, dim=min(512, scale.dim))


def _dba(scale: Scale, work: Path) -> dict[str, Any]:
    return dba.measure(scale.references, scale.dim, workdir=work, draw=_draw, repeats=scale.repeats)


def _rank(scale: Scale, work: Path) -> dict[str, Any]:
    return rank.measure(scale.queries, scale.references, scale.dim, workdir=work, draw=_draw, repeats=scale.repeats)


def _upserts(scale: Scale, work: Path) -> dict[str, Any]:
    return upserts.measure(work, dim=scale.dim, items=scale.upserts)


def _live(scale: Scale, work: Path) -> dict[str, Any]:  # noqa: ARG001
    vectors = _real(scale)
    return live_dba.measure((drawn(scale.items, scale.dim).vectors if vectors is None else vectors)[:10_000])


def _beside(scale: Scale, work: Path) -> dict[str, Any]:
    vectors = drawn(scale.items // 2, min(1_024, scale.dim)).vectors
    return beside_build.measure(vectors, work, idle_seconds=scale.idle_seconds)


def _real(scale: Scale) -> Vectors | None:
    """Return the vectors of real pictures, None if there are none."""
    try:
        return real(scale.pictures, scale.items, scale.cache).vectors
    except FileNotFoundError as error:
        print(f"{error}; only drawn vectors are measured", file=sys.stderr)
        return None


def _draw(count: int, dim: int, seed: int) -> Vectors:
    return drawn(count, dim, seed=seed).vectors


_MEASURES: dict[str, Callable[[Scale, Path], dict[str, Any]]] = {
    "search": _search,
    "grpc": _grpc,
    "growth": _growth,
    "dba": _dba,
    "rank": _rank,
    "upserts": _upserts,
    "live": _live,
    "beside": _beside,
}


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench-indexer"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--pictures", type=Path, default=Scale.pictures, help="folder of class folders with PNG pictures")
    parser.add_argument("--cache", type=Path, default=Scale.cache, help="where the vectors of the pictures are kept")
    asked = parser.parse_args()
    end_servers_when_ended()
    run(Scale(pictures=asked.pictures, cache=asked.cache), tuple(asked.parts), asked.out)


if __name__ == "__main__":
    main()
