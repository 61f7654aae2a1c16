"""`python -m benchmarks.faults`: all fault runs of the indexer, and their report."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.faults.corruption import corrupt
from benchmarks.faults.disk import disk_full
from benchmarks.faults.kill import kill9, kill9_during_build
from benchmarks.reporting import Figure, Section, Table, Text, write_report

MUST_BE_ZERO = ("lost", "resurrected", "torn", "strange", "unfindable", "found_though_deleted", "unseen_at_once", "debris")


def main() -> int:
    """Run, report, and return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/faults-indexer"))
    parser.add_argument("--rounds", type=int, default=200, help="rounds of kill -9 under mixed traffic")
    parser.add_argument("--build-rounds", type=int, default=50, help="rounds of kill -9 during a build")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    document = run(asked.out, asked.rounds, asked.build_rounds, asked.seed)
    report(asked.out, document)
    return 1 if broken(document) else 0


def run(out: Path, rounds: int, build_rounds: int, seed: int) -> dict[str, Any]:
    """Return what each run found, which `found.json` in `out` holds of those that have ended."""
    out.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="lookalike-faults-"))
    started = time.monotonic()
    document: dict[str, Any] = {"seed": seed}
    runs: dict[str, Callable[[Path], dict[str, Any]]] = {
        "kill9": lambda folder: kill9(folder, rounds, seed, _tell),
        "kill9_during_build": lambda folder: kill9_during_build(folder, build_rounds, seed, _tell),
        "disk_full": lambda folder: disk_full(folder, seed, _tell),
        "corrupt": lambda folder: corrupt(folder, seed, _tell),
    }
    try:
        for name, part in runs.items():
            document[name] = part(_folder(work, name))
            # What was found is there even if a later part does not come to its end.
            (out / "found.json").write_text(json.dumps(document, indent=2), encoding="utf-8")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return {**document, "seconds": round(time.monotonic() - started, 1)}


def broken(document: dict[str, Any]) -> list[str]:
    """Return which promises were broken, in words."""
    kills = [(name, document[name]) for name in ("kill9", "kill9_during_build")]
    found = [f"{name}: {zero} {run[zero]}" for name, run in kills for zero in MUST_BE_ZERO if run[zero]]
    found += [f"{name}: {detail}" for name, run in kills for detail in run["details"]]
    if document["disk_full"].get("as_promised") is False:
        found.append(f"disk_full: {document['disk_full']}")
    damaged = document["corrupt"]
    for name in ("noticed", "right_answers", "built_anew"):
        if damaged[name] != len(damaged["cases"]):
            found.append(f"corrupt: {name} in {damaged[name]} of {len(damaged['cases'])} cases")
    return found


def report(out: Path, document: dict[str, Any]) -> None:
    """Write the report of `run` into `out`."""
    faults = broken(document)
    sections = [_kills_section(document), _disk_section(document), _damage_section(document)]
    if faults:
        sections.insert(0, Section("Broken promises", [Table([""], [[each] for each in faults])]))
    lead = (
        "A real server process is killed with SIGKILL in the middle of upserts, deletions, changes of labels, searches and builds; then a "
        "new one on the same files is held against what the first had acknowledged. A write under way may have happened or not, but whole."
    )
    title = "A promise was broken" if faults else "Nothing acknowledged was lost"
    write_report(out, title, lead, document, _figures(document, faults), sections)


def _figures(document: dict[str, Any], faults: list[str]) -> list[Figure]:
    kills, builds = document["kill9"], document["kill9_during_build"]
    rounds, written, in_flight = kills["rounds"], kills["acknowledged"], kills["in_flight_kills"]
    lost, undone = (kills[name] + builds[name] for name in ("lost", "resurrected"))
    return [
        Figure("rounds of kill -9 under mixed traffic", f"{rounds}"),
        Figure("writes acknowledged in them", f"{written:,}", f"≥ {250 * rounds:,}", written >= 250 * rounds),
        Figure("kills with a write under way", f"{in_flight}", f"≥ {rounds // 4}", in_flight >= rounds // 4),
        Figure("acknowledged writes lost", f"{lost}", "0", lost == 0),
        Figure("deletions undone", f"{undone}", "0", undone == 0),
        Figure("rounds of kill -9 during a build", f"{builds['rounds']}"),
        Figure("promises broken", f"{len(faults)}", "0", not faults),
    ]


def _kills_section(document: dict[str, Any]) -> Section:
    kills, builds = document["kill9"], document["kill9_during_build"]
    counts = [name for name, value in kills.items() if isinstance(value, int)]
    rows = [[name.replace("_", " "), f"{kills[name]:,}", f"{builds[name]:,}"] for name in counts]
    stages = ", ".join(f"{stage} {count}" for stage, count in builds["stages"].items())
    return Section("kill -9", [Table(["", "under mixed traffic", "during a build"], rows), Text(f"Builds were killed in: {stages}.")])


def _disk_section(document: dict[str, Any]) -> Section:
    return Section(
        "A full disk", [Table(["", ""], [[name.replace("_", " "), str(value)] for name, value in document["disk_full"].items()])]
    )


def _damage_section(document: dict[str, Any]) -> Section:
    damaged = document["corrupt"]
    summary = (
        f"{len(damaged['cases'])} cases over {len(damaged['files'])} files: noticed {damaged['noticed']}, answered rightly "
        f"{damaged['right_answers']}, built anew from the store {damaged['built_anew']}."
    )
    rows = [[each["file"], each["damage"], *(str(each[name]) for name in ("noticed", "right", "built_anew"))] for each in damaged["cases"]]
    return Section("Damaged files of a build", [Text(summary), Table(["file", "damage", "noticed", "right answers", "built anew"], rows)])


def _folder(work: Path, name: str) -> Path:
    folder = work / name
    folder.mkdir()
    return folder


def _tell(line: str) -> None:
    print(f"\r{line}\x1b[K" if sys.stderr.isatty() else line, end="" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
