"""The report of the indexer's benchmarks, made of as many parts as have been measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.reporting import Chart, Figure, Section, Table, Text, write_report
from benchmarks.reporting.charts import frontier_chart

Document = Mapping[str, Any]

# Name, part, key, at least (True) or at most (False), bound.
_ASKED = (
    ("gRPC against the library, batches of 32", "grpc", "grpc_vs_library", True, 0.8),
    ("DBA against all pairs by matrix product", "dba", "dba_vs_gemm", False, 0.6),
    ("DBA's peak memory, share of the vectors", "dba", "peak_vs_vectors", False, 0.3),
    ("Rank against matrix product and sort", "rank", "rank_vs_gemm", False, 1.3),
    ("durable upserts against bare SQLite", "upserts", "upsert_vs_sqlite", True, 0.7),
    ("live answers like a new build's, of 10", "live", "overlap_at_10", True, 0.95),
    ("p99 of searches beside a build", "beside", "p99_during_build_ratio", False, 2.0),
)
_SEARCH_ASKED = (
    ("engine annoy against raw Annoy at .95", "vs_annoy_at_95", 5.0),
    ("engine hnsw against hnswlib at .95", "vs_hnswlib_full_at_95", 1.5),
)


def write(out: Path, document: Document) -> None:
    """Write `report.json` and `report.html` of what has been measured into `out`."""
    sections = [section for part, make in _SECTIONS.items() if part in document for section in make(document[part])]
    lead = (
        "Peers and we on the same vectors, in one run, one thread each, peers at the best of the sweep that is shown. Recall is that of "
        "the ten nearest, with the probes left out on both sides."
    )
    write_report(out, "What the indexer does in a second", lead, document, list(_figures(document)), sections)


def _figures(document: Document) -> Iterator[Figure]:
    for data_set, measured in document.get("search", {}).items():
        for name, key, bound in _SEARCH_ASKED:
            for suffix, kind in (("", "single"), ("_batch", "batches of 32")):
                yield _figure(f"{name}, {data_set}, {kind}", measured[key + suffix], True, bound)
    for name, part, key, at_least, bound in _ASKED:
        if part in document:
            yield _figure(name, document[part][key], at_least, bound)


def _figure(name: str, value: float | None, at_least: bool, bound: float) -> Figure:
    asked = f"{'≥' if at_least else '≤'} {bound:g}"
    if value is None:
        return Figure(name, "—", f"{asked}; the peer reached no recall of .95")
    return Figure(name, f"{value:.2f}", asked, value >= bound if at_least else value <= bound)


def _search(part: Document) -> Iterator[Section]:
    for data_set, measured in part.items():
        title = f"Search: {data_set}, {measured['items']:,} × {measured['dim']:,}"
        charts = [_curves(measured, batch=batch) for batch in (False, True)]
        rows = [
            [engine, _kind(entry), str(entry["k"]), _source(entry), f"{entry['recall']:.3f}", _rate(entry)]
            for engine, each in measured["engines"].items()
            for entry in each["plan"]
        ]
        seconds = [[engine, *(f"{each['seconds'].get(stage, 0):.1f}" for stage in _STAGES)] for engine, each in measured["engines"].items()]
        sizes = [[name, _mebibytes(measured["files"].get(name)), _mebibytes(memory)] for name, memory in measured["memory"].items()]
        yield Section(
            title,
            [
                Text("Recall at 10 against queries a second, single queries: a dot for each setting, a line along each one's best."),
                charts[0],
                Text("The same in batches of 32."),
                charts[1],
                Text("What the builds planned."),
                Table(["engine", "kind", "k", "source", "recall", "queries/s"], rows),
                Text("Seconds of the builds by stage."),
                Table(["engine", *_STAGES], seconds),
                Text("What each takes: memory after 200 queries, of mapped files what was read; the vectors to compare with."),
                Table(["", "MiB of files", "MiB of memory"], sizes),
            ],
        )


_STAGES = ("reduce", "index", "measure")


def _curves(measured: Document, *, batch: bool) -> Chart:
    lines = {
        method: [(point["recall"], point["queries_per_second"]) for point in points if point["batch"] == batch]
        for method, points in measured["curves"].items()
    }
    return Chart(frontier_chart({name: line for name, line in lines.items() if line}, x="recall at 10", y="queries a second"))


def _kind(entry: Document) -> str:
    return "batches" if entry["batch"] else "single"


def _source(entry: Document) -> str:
    dims = f" over {entry['reduced_dim']} dimensions" if entry["reduced_dim"] else ""
    return ", ".join(
        [f"{entry['source']}{dims}", *(f"{key} {entry[key]:,}" for key in ("trees", "links", "search_k", "depth") if entry[key])]
    )


def _mebibytes(size: int | None) -> str:
    return "—" if size is None else f"{size / 2**20:,.0f}"


def _rate(entry: Document) -> str:
    return f"{1e3 / entry['milliseconds']:,.0f}" if entry["milliseconds"] else "—"


# What grows, in which unit.
_GROWING = {
    "build, s": ("build_seconds", 1),
    "single, ms": ("single_milliseconds", 1),
    "batches, ms": ("batch_milliseconds", 1),
    "memory, MiB": ("memory_bytes", 2**20),
    "files, MiB": ("size_bytes", 2**20),
}


def _growth(part: Document) -> Iterator[Section]:
    engines = part["engines"].items()
    rows = [
        [engine, f"{point['items']:,}", *(f"{point[key] / unit:,.3g}" for key, unit in _GROWING.values())]
        for engine, each in engines
        for point in each["points"]
    ]
    exponents = [
        [engine, "exponent", *(f"{each['exponents'].get(key, 0):.2f}" for key, _ in _GROWING.values())] for engine, each in engines
    ]
    changes = [
        [engine, " to ".join(f"{items:,}" for items in change["between"]), str(change["k"]), _kind(change), change["from"], change["to"]]
        for engine, each in engines
        for change in each["changes"]
    ]
    yield Section(
        f"Growth, {part['dim']} dimensions",
        [
            Table(["engine", "items", *_GROWING], [*rows, *exponents]),
            Text("Where the planner changes its mind."),
            Table(["engine", "items", "k", "kind", "from", "to"], changes),
        ],
    )


def _flat(title: str) -> Callable[[Document], Iterator[Section]]:
    """Return what shows every number of a part in a table."""

    def sections(part: Document) -> Iterator[Section]:
        rows = [[name.replace("_", " "), f"{value:,.4g}" if isinstance(value, float) else str(value)] for name, value in _numbers(part)]
        yield Section(title, [Table(["", ""], rows)])

    return sections


def _numbers(part: Document, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in part.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name} · ")
        elif not isinstance(value, list):
            yield f"{prefix}{name}", value


_SECTIONS: dict[str, Callable[[Document], Iterator[Section]]] = {
    "search": _search,
    "grpc": _flat("Over gRPC"),
    "growth": _growth,
    "dba": _flat("Augmentation (DBA)"),
    "rank": _flat("Rank"),
    "upserts": _flat("Durable upserts"),
    "live": _flat("Augmentation of live items"),
    "beside": _flat("Searches beside a build"),
}
