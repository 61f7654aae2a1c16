"""The report of the embedder's benchmark, and which bounds were missed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.reporting import Chart, Figure, Section, Table, Text, write_report
from benchmarks.reporting.charts import lines_chart

_MIB = 1 << 20
_PEERS = ("bare", "bare_compiled", "litserve", "litserve_compiled")


class Bound(NamedTuple):
    """A figure, how it is read from the document, and what was asked of it."""

    name: str
    read: Callable[[Mapping[str, Any]], float | None]
    sign: str
    limit: float
    digits: int = 3

    def holds(self, document: Mapping[str, Any]) -> bool | None:
        """Say whether it holds; None if it was not measured."""
        value = self.read(document)
        if value is None:
            return None
        return value >= self.limit if self.sign == "≥" else value <= self.limit


BOUNDS = (
    Bound("stream_vs_bare", lambda d: d["big"]["stream_vs_bare"], "≥", 0.95),
    Bound("stream_vs_bare_small", lambda d: d["small"]["stream_vs_bare"], "≥", 0.85),
    Bound("stream_vs_litserve, big network", lambda d: d["big"].get("stream_vs_litserve"), "≥", 1.3),
    Bound("stream_vs_litserve, small network", lambda d: d["small"].get("stream_vs_litserve"), "≥", 1.3),
    Bound("unary_overhead_ms", lambda d: d["unary"]["unary_overhead_ms"], "≤", 3.0),
    Bound("overload.memory_ratio", lambda d: d["overload"]["memory_ratio"], "≤", 1.2),
    Bound("overload.interactive_p99_ratio", lambda d: d["beside_bulk"]["interactive_p99_ratio"], "≤", 3.0),
    Bound("overload: calls without an answer", lambda d: d["overload"]["without_answer"], "≤", 0, 0),
    Bound("overload: refusals that do not say when", lambda d: d["overload"]["refused_without_retry"], "≤", 0, 0),
    Bound("overload: seconds to full speed", lambda d: d["overload"]["recovery_seconds"], "≤", 2.0),
    Bound("soak.growth", lambda d: d["soak"]["growth"], "≤", 0.02),
    Bound("soak: errors that are not the pictures'", lambda d: len(d["soak"]["errors"]), "≤", 0, 0),
)


def missed(document: Mapping[str, Any]) -> list[str]:
    """Return the names of the bounds that do not hold."""
    return [bound.name for bound in BOUNDS if bound.holds(document) is False]


def report(out: Path, document: Mapping[str, Any]) -> None:
    """Write the report of a run into `out`."""
    figures = [_figure(bound, document) for bound in BOUNDS]
    sections = [
        *(
            _throughput(f"{title}: {document[name]['architecture']}", document[name])
            for name, title in (("big", "Big"), ("small", "Small"))
        ),
        _latency(document),
        _overload(document),
        _soak(document["soak"]),
        _scaled(document["scaled_decoding"]),
    ]
    lead = (
        "Images a second from encoded pictures to vectors. A bare loop, our stream and LitServe take turns on the same cores; the bare "
        "loop and LitServe have the best setting of their sweeps, our server its defaults. Its clients run on the same cores too."
    )
    failed = missed(document)
    title = f"{len(failed)} of {len(BOUNDS)} bounds were missed" if failed else "The embedder holds every bound"
    write_report(out, title, lead, document, figures, sections)


def _figure(bound: Bound, document: Mapping[str, Any]) -> Figure:
    value = bound.read(document)
    told = "not measured" if value is None else f"{value:.{bound.digits}f}"
    return Figure(bound.name, told, f"{bound.sign} {bound.limit:g}", bound.holds(document))


def _throughput(title: str, told: Mapping[str, Any]) -> Section:
    rounds = told["rounds"]
    names = list(rounds[0])
    parts: list[Text | Table | Chart] = [Table(["turn", *names], [[f"{at + 1}", *_numbers(each, names)] for at, each in enumerate(rounds)])]
    ours = told["stream"]["chosen"]
    layout = "nhwc" if ours["channels_last"] else "nchw"
    way = "compiled by OpenVINO" if ours["compiled"] else f"by torch, {layout}"
    text = f"Our server found {ours['precision']}, {way}, threads a batch: {ours['threads']} the fastest here."
    ratios = [f"{told[f'stream_vs_{name}']:.3f} against {name}" for name in _PEERS if name in told]
    parts.append(Text(f"{text} Its stream is at {', '.join(ratios)}; `compiled` is the peer with our server's network."))
    for name in (each for each in _PEERS if each in told):
        settings = told[name]["tried"]
        columns = list(settings[0])
        fastest = sorted(settings, key=lambda setting: -float(setting["images_per_second"]))
        parts += [Text(f"{name}: its sweep, fastest first."), Table(columns, [_numbers(each, columns) for each in fastest])]
    return Section(title, parts)


def _latency(document: Mapping[str, Any]) -> Section:
    unary, busy = document["unary"], document["concurrency"]
    rows = [[str(each["callers"]), *_numbers(each, ("p50", "p99", "calls_per_second"))] for each in busy]
    lines = {name: [(each["callers"], each[name]) for each in busy] for name in ("p50", "p99")}
    summary = (
        "Idle server: what a call adds to decoding and the network in process, medians of "
        f"{unary['calls']} calls in each turn; the bound is held against the median of the turns."
    )
    turns = [
        [f"{turn['call_ms']['p50']:.2f}", f"{turn['in_process_ms']['p50']:.2f}", f"{turn['overhead_ms']:.2f}"] for turn in unary["turns"]
    ]
    chart = Chart(lines_chart(lines, x="concurrent callers", y="ms", log_x=True, log_y=True))
    alone = Table(["a call in ms", "in process in ms", "apart"], turns)
    return Section("Single pictures", [Text(summary), alone, chart, Table(["callers", "p50 in ms", "p99 in ms", "calls/s"], rows)])


def _overload(document: Mapping[str, Any]) -> Section:
    over, beside = document["overload"], document["beside_bulk"]
    bulk, sizes = beside["bulk_images_per_second"], beside["bulk_batch_size"]
    rows = [
        ["images/s at capacity", f"{over['capacity_images_per_second']:.1f}"],
        ["images/s offered", f"{over['offered_images_per_second']:.1f}"],
        ["images/s served meanwhile", f"{over['served_images_per_second']:.1f}"],
        ["answers", ", ".join(f"{code} {count}" for code, count in over["answers"].items())],
        ["MiB of memory at capacity, at its peak", " → ".join(f"{over['anonymous_bytes'][k] / _MIB:.0f}" for k in ("at_capacity", "peak"))],
        ["interactive p99 in ms, idle → beside a stream", f"{beside['idle_ms']['p99']:.1f} → {beside['beside_bulk_ms']['p99']:.1f}"],
        ["images/s of the stream, alone → beside calls", f"{bulk['alone']:.1f} → {bulk['beside_calls']:.1f}"],
        ["its mean batch, alone → beside calls", f"{sizes['alone']:.1f} → {sizes['beside_calls']:.1f}"],
        ["calls/s, idle → beside a stream", " → ".join(f"{each:.1f}" for each in beside["calls_per_second"].values())],
    ]
    return Section("Overload, and calls beside a stream", [Table(["", ""], rows)])


def _soak(told: Mapping[str, Any]) -> Section:
    samples = [(at * told["seconds"] / len(told["samples"]), value / _MIB) for at, value in enumerate(told["samples"])]
    summary = f"{told['sent']['pictures']:,} pictures and {told['sent']['broken']:,} broken ones in {told['seconds']:g} s."
    parts: list[Text | Table | Chart] = [Text(summary), Chart(lines_chart({"memory": samples}, x="seconds", y="MiB of its own"))]
    if told["errors"]:
        parts.append(Table(["errors"], [[error] for error in told["errors"]]))
    return Section("Soak", parts)


def _scaled(rows: Sequence[Mapping[str, Any]]) -> Section:
    text = (
        "A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size. Asked for at least `gap` × 224 pixels, it moves the vector by this much "
        "(1 − cosine; one picture's vectors may be 1e-5 apart). So pictures are decoded whole."
    )
    cells = [
        [f"{row['side']}", f"{row['gap']}", f"{row['whole_ms']:.1f}", f"{row['scaled_ms']:.1f}", f"{row['distance']:.1e}"] for row in rows
    ]
    return Section("Scaled decoding", [Text(text), Table(["pixels a side", "gap", "ms whole", "ms scaled", "1 − cosine, worst"], cells)])


def _numbers(values: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [f"{values[name]:.1f}" if isinstance(values[name], float) else str(values[name]) for name in names]
