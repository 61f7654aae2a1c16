from __future__ import annotations

import json
from pathlib import Path

from benchmarks.indexer.__main__ import PARTS, Scale, run
from benchmarks.indexer.search import Sweep

TINY = Sweep(
    probes=50, runs=3, turns=2, trees=(10,), search_k=(500, 4_000), links=(8,), considered=(50,), efs=(16, 64), reduced=(16,), depths=(20,),
    recalls=(0.9,),
)  # fmt: skip


def test_every_part_is_measured_and_reported(tmp_path: Path) -> None:
    scale = Scale(
        items=1_500, dim=64, growth=(1_000, 1_500), references=1_100, queries=100, upserts=500, repeats=1, idle_seconds=0.5, sweep=TINY,
        pictures=tmp_path / "none", cache=tmp_path / "real.npz",
    )  # fmt: skip
    document = run(scale, PARTS, tmp_path)
    assert set(PARTS) < set(document)
    written = json.loads((tmp_path / "report.json").read_text())
    assert {"vs_annoy_at_95", "vs_hnswlib_full_at_95_batch"} <= set(written["search"]["drawn"])
    page = (tmp_path / "report.html").read_text()
    for title in ("Search: drawn", "Growth", "Rank", "Durable upserts", "Searches beside a build"):
        assert title in page
