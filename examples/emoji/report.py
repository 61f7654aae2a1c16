"""What the demo came to: `report.json` for programs, `report.html` for people."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from examples.emoji.page import EmbeddingMap, gallery_rows, render_page
from examples.emoji.plots import comparison_chart, training_chart
from lookalike_retrieval import dba_weights, paired_class_bootstrap

MAP_CLASSES = 24


@dataclass(frozen=True)
class Evidence:
    """What the commands answered.

    zero_shot, trained, with_dba: folders of evaluations. index, search, submission: the JSON documents of the commands. recipe, events: of
    the training job. maps: the same unseen classes before and after.
    """

    zero_shot: Path
    trained: Path
    with_dba: Path
    recipe: str
    events: Sequence[Mapping[str, Any]]
    index: Mapping[str, Any]
    search: Mapping[str, Any]
    search_query: str
    submission: Mapping[str, Any]
    dba_k: int
    maps: Sequence[EmbeddingMap]


def write_report(
    out: Path, data: Path, size: int, evidence: Evidence, seconds: Mapping[str, float], peaks: Mapping[str, float]
) -> dict[str, Any]:
    """Write both reports into `out`; returns the document of the first."""
    document = report_document(data, evidence)
    document["zero_shot"]["size"] = size
    document["seconds"] = {name: round(value, 1) for name, value in seconds.items()}
    document["peak_rss_mib"] = dict(peaks)
    document["machine"] = {"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()}
    (out / "report.json").write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / "report.html").write_text(_page(data, document, evidence), encoding="utf-8")
    return document


def report_document(data: Path, evidence: Evidence) -> dict[str, Any]:
    """Return the figures, and where each comes from."""
    summary = _read(data / "dataset.json")
    zero_shot, trained, with_dba = (_read(folder / "report.json") for folder in (evidence.zero_shot, evidence.trained, evidence.with_dba))
    _, version = trained["model"].rsplit("/", 1)
    return {
        "dataset": {name: summary[name] for name in ("train_classes", "test_classes", "queries", "references")},
        "map_definition": trained["map_definition"],
        "zero_shot": _figures(zero_shot),
        "trained": _figures(trained),
        "with_dba": {
            **_figures(with_dba),
            "dba_k": evidence.dba_k,
            "weights": [round(float(w), 4) for w in dba_weights(evidence.dba_k, with_dba["dba"]["weights"])],
            "gain_ci95": _gain(evidence.trained, evidence.with_dba),
        },
        "gain_over_zero_shot_ci95": _gain(evidence.zero_shot, evidence.trained),
        "submission": {name: evidence.submission[name] for name in ("path", "rows", "missing")},
        "index": _index(evidence.index),
        "search_example": {"query": evidence.search_query, "hits": _hits(evidence.search)},
        "model": {"name": trained["model"].split("/")[1], "version": int(version), "space": trained["space"]},
        "training": {"recipe": evidence.recipe, "epochs": epochs_of(evidence.events)},
    }


def epochs_of(events: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Return the figures after each epoch, in order, out of a job's events; epoch 0 is before training."""
    staged = [(event["progress"]["stage"], event["metrics"]) for event in events if event["progress"]]
    before = [metrics for stage, metrics in staged if stage == "evaluate" and "train_loss" not in metrics]
    after = [metrics for stage, metrics in staged if stage == "train" and "train_loss" in metrics]
    return [{"epoch": 0, **metrics} for metrics in before[:1]] + [{"epoch": n, **metrics} for n, metrics in enumerate(after, 1)]


def _figures(report: Mapping[str, Any]) -> dict[str, Any]:
    return {name: report[name] for name in ("map", "map_ci95", "r1", "r1_ci95", "r5", "k")}


def _index(indexed: Mapping[str, Any]) -> dict[str, Any]:
    report, chosen = indexed["build"]["report"], indexed["build"]["report"]["chosen"]
    return {
        "engine": report["engine"].lower(),
        "forced": indexed["build"]["spec"]["force_engine"],
        "trees": report["trees"],
        "reduced_dim": report["reduced_dim"],
        "dim": indexed["collection"]["space"]["dim"],
        "search_k": chosen["search_k"],
        "depth": chosen["depth"],
        "recall_at_10_vs_exact": chosen["recall_at_10"],
        "recall_at_10_low": chosen["recall_at_10_low"],
        "items": report["item_count"],
        "reason": report["reason"],
    }


def _hits(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"id": hit["item"]["id"], "score": hit["score"], "label": hit["item"]["label"]} for hit in found["hits"]]


def _gain(before: Path, after: Path) -> list[float]:
    first, second = (_read(folder / "per_query.json")["queries"] for folder in (before, after))
    both = [(a["ap"], b["ap"], a["label"]) for a, b in zip(first, second, strict=True) if a["ap"] is not None]
    a, b, labels = zip(*both, strict=True)
    interval = paired_class_bootstrap(np.array(a), np.array(b), np.array(labels))
    return [interval.low, interval.high]


def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _page(data: Path, document: Mapping[str, Any], evidence: Evidence) -> str:
    bars = [
        ("ImageNet, untrained", document["zero_shot"]),
        ("trained", document["trained"]),
        ("trained, DBA", document["with_dba"]),
    ]
    charts = {
        "training": training_chart(document["training"]["epochs"]),
        "comparison": comparison_chart([(name, figures["map"], tuple(figures["map_ci95"])) for name, figures in bars]),
    }
    per_query = _read(evidence.with_dba / "per_query.json")["queries"]
    gallery = gallery_rows(per_query, data / "test" / "queries", data / "test" / "references")
    facts = {**document, "licences": json.loads((data / "licences.json").read_text(encoding="utf-8")), "map_classes": MAP_CLASSES}
    return render_page(facts, charts, evidence.maps, gallery)
