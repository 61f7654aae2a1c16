"""`python -m benchmarks.trainer`: a job's speed, two-pass mining and the time to an mAP, and their report."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

import benchmarks.trainer.throughput as speed
import benchmarks.trainer.time_to_map as races
import benchmarks.trainer.two_pass as mining
from benchmarks.reporting import Chart, Figure, Section, Table, Text, write_report
from benchmarks.reporting.charts import lines_chart

FASTEST_SHARE, MOST_MEMORY = 0.95, 1.25


@dataclass(frozen=True, slots=True)
class Settings:
    """Of the three parts."""

    throughput: speed.Setting = field(default_factory=speed.Setting)
    two_pass: mining.Setting = field(default_factory=mining.Setting)
    time_to_map: races.Setting = field(default_factory=races.Setting)


def main() -> int:
    """Measure, report, and return 1 if less was found than is asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench-trainer"))
    parser.add_argument("--emoji", type=Path, default=Path("out/demo/data/train"), help="pictures, a folder per class")
    for part in fields(Settings):
        for name, value in asdict(getattr(Settings(), part.name)).items():
            if isinstance(value, int | float | str):
                parser.add_argument(_flag(part.name, name), type=type(value), default=value)
    given = vars(parser.parse_args())
    parts = {}
    for part in fields(Settings):
        default = getattr(Settings(), part.name)
        chosen = {name: given[key] for name in asdict(default) if (key := _flag(part.name, name)[2:].replace("-", "_")) in given}
        parts[part.name] = type(default)(**{**asdict(default), **chosen})
    document = run(Settings(**parts), given["emoji"])
    report(given["out"], document)
    return 0 if document["throughput_ratio"] >= FASTEST_SHARE and document["two_pass_memory_ratio"] <= MOST_MEMORY else 1


def run(settings: Settings, emoji: Path) -> dict[str, Any]:
    """Return what each part found.

    Raises:
        FileNotFoundError: there are too few classes of emoji.
        RuntimeError: a job or a loop failed.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as work:
        raced = races.measure(settings.time_to_map, emoji, Path(work), _tell)
        measured = speed.measure(settings.throughput, Path(work) / "speed", _tell)
    mined = {case: asdict(mining.measure(settings.two_pass, case)) for case in get_args(mining.Case)}
    return {
        "throughput_ratio": measured["throughput_ratio"],
        "two_pass_memory_ratio": mined["two_pass"]["peak_bytes"] / mined["plain"]["peak_bytes"],
        "two_pass_time_ratio": mined["two_pass"]["seconds_per_step"] / mined["full_graph"]["seconds_per_step"],
        "throughput": measured,
        "two_pass": mined,
        "time_to_map": raced,
        "settings": asdict(settings),
        "seconds": round(time.monotonic() - started, 1),
    }


def report(out: Path, document: dict[str, Any]) -> None:
    """Write the report of `run` into `out`."""
    ratio, memory = document["throughput_ratio"], document["two_pass_memory_ratio"]
    figures = [
        Figure("speed of a job, as a share of the best plain loop's", f"{ratio:.2f}", f"≥ {FASTEST_SHARE}", ratio >= FASTEST_SHARE),
        Figure("memory of two-pass mining, against a plain batch", f"{memory:.2f} ×", f"≤ {MOST_MEMORY} ×", memory <= MOST_MEMORY),
        Figure("its time a step, against mining with all of the batch's graph", f"{document['two_pass_time_ratio']:.2f} ×"),
        *(Figure(f"time to mAP {document['time_to_map']['target_map']:.3f}, {name}", _seconds(found))
          for name, found in document["time_to_map"]["seconds_to_target"].items()),
    ]  # fmt: skip
    lead = (
        "Jobs and loops took turns, each in a process of its own, on the same pictures. Ratios count, not times: the machine may be busy."
    )
    sections = [_throughput_section(document), _two_pass_section(document), _race_section(document)]
    write_report(out, "What a training costs", lead, document, figures, sections)


def _throughput_section(document: dict[str, Any]) -> Section:
    found = document["throughput"]
    rows = [[*(str(each[name]) for name in ("workers", "threads", "memory_format")), f"{each['pictures_per_second']:.1f}"]
            for each in found["sweep"]]  # fmt: skip
    turns = [[str(number), f"{turn['job']:.1f}", f"{turn['plain']:.1f}"] for number, turn in enumerate(found["turns"], 1)]
    return Section(
        "A job against a plain PyTorch loop",
        [
            Text(
                "The plain loop is a DataLoader, forward, backward and the optimiser's step, with the job's network, batch, pictures and "
                "augmentation, and with the worker's allocator and OpenMP settings. The best of its sweep then took turns with the job."
            ),
            Table(["turn", "job, pictures a second", "plain loop"], turns),
            Table(["workers", "threads", "memory format", "pictures a second"], rows),
        ],
    )


def _two_pass_section(document: dict[str, Any]) -> Section:
    setting = document["settings"]["two_pass"]
    text = (
        f"{setting['architecture']} at {setting['size']} px, {setting['classes']} classes × {setting['pictures']} pictures. Memory is the "
        "peak above what was there before the first step."
    )
    names = {"plain": "plain batch of the triplets", "two_pass": "two-pass", "full_graph": "all with gradients"}
    rows = [
        [names[case], f"{each['peak_bytes'] / 2**20:,.0f} MiB", f"{each['seconds_per_step']:.1f} s"]
        for case, each in document["two_pass"].items()
    ]
    return Section("Two-pass mining", [Text(text), Table(["", "memory", "time a step"], rows)])


def _race_section(document: dict[str, Any]) -> Section:
    found = document["time_to_map"]
    setting = document["settings"]["time_to_map"]
    text = (
        f"{setting['classes']} classes of emoji at {setting['size']} px, {setting['held_out']:.0%} of them held out, {setting['epochs']} "
        f"epochs in all, from {setting['init']}. Seconds are those of training steps, without evaluations."
    )
    rows = [[name, _seconds(found["seconds_to_target"][name]), f"{max(score for _, score in curve):.3f}", f"{curve[-1][0]:.0f} s"]
            for name, curve in found["curves"].items()]  # fmt: skip
    chart = lines_chart(found["curves"], x="seconds of training steps", y="mAP on held-out classes")
    return Section(
        "Time to a given mAP",
        [Text(text), Table(["", f"to mAP {found['target_map']:.3f}", "best mAP", "in all"], rows), Chart(chart)],
    )


def _seconds(found: float | None) -> str:
    return "not reached" if found is None else f"{found:.0f} s"


def _flag(part: str, name: str) -> str:
    return f"--{part}-{name}".replace("_", "-")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (FileNotFoundError, RuntimeError) as error:
        sys.exit(f"bench-trainer: {error}")
