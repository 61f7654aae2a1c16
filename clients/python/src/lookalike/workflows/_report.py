"""What an evaluation came to, for programs (`report.json`, `per_query.json`) and for people (`report.html`)."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from lookalike._files import written_whole
from lookalike._folders import PictureFile
from lookalike.workflows._dba import dba_document
from lookalike.workflows.evaluate import Evaluation
from lookalike_images import PictureError, decode, thumbnail
from lookalike_retrieval import Interval

SHOWN_HITS = 10
SHOWN_QUERIES = 12
_BINS = 20
_THUMBNAIL_SIDE = 96


def write_report(evaluation: Evaluation, folder: Path) -> dict[str, Any]:
    """Write `report.json`, `per_query.json` and `report.html` into `folder`; returns the first of them."""
    report = report_document(evaluation)
    for name, document in (("report.json", report), ("per_query.json", per_query_document(evaluation))):
        with written_whole(folder / name) as file:
            json.dump(document, file, ensure_ascii=False, indent=2)
    with written_whole(folder / "report.html") as file:
        file.write(report_page(evaluation, report))
    return report


def report_document(evaluation: Evaluation) -> dict[str, Any]:
    """Return the figures and where they come from, as JSON takes them."""
    return {
        "map": evaluation.map.mean,
        "map_ci95": _ends(evaluation.map),
        "map_definition": evaluation.map_definition,
        "r1": evaluation.r1.mean,
        "r1_ci95": _ends(evaluation.r1),
        "r5": evaluation.r5.mean,
        "r5_ci95": _ends(evaluation.r5),
        "intervals": "95 %, bootstrap of whole classes",
        "queries": len(evaluation.queries),
        "references": len(evaluation.references),
        "classes": evaluation.class_count,
        "k": evaluation.k,
        "model": evaluation.model,
        "space": evaluation.space.fingerprint,
        "profile": evaluation.space.profile,
        "dba": dba_document(evaluation.dba),
        "query_dba": dba_document(evaluation.query_dba),
        "transductive": evaluation.query_dba.k > 0,
        "queries_are_references": evaluation.same_folder,
        "unanswerable": [picture.id for picture in evaluation.unanswerable],
        "left_out": {
            "queries": [asdict(each) for each in evaluation.left_out_queries],
            "references": [asdict(each) for each in evaluation.left_out_references],
        },
    }


def per_query_document(evaluation: Evaluation) -> dict[str, Any]:
    """Return each query with its average precision (null where no reference is relevant) and its best hits."""
    return {
        "map_definition": evaluation.map_definition,
        "queries": [
            {
                "id": query.id,
                "label": query.label,
                "ap": None if math.isnan(ap := float(evaluation.scores.ap[row])) else ap,
                "hits": [
                    {"id": hit.picture.id, "label": hit.picture.label, "score": hit.score, "right": hit.right}
                    for hit in _hits(evaluation, row)
                ],
            }
            for row, query in enumerate(evaluation.queries)
        ],
    }


def report_page(evaluation: Evaluation, report: dict[str, Any]) -> str:
    """Return a page of its own, without anything to load: figures, settings, the spread of AP, best and worst queries."""
    environment = Environment(
        loader=PackageLoader("lookalike.workflows", "."), autoescape=select_autoescape(default=True), undefined=StrictUndefined
    )
    order = np.argsort(np.where(evaluation.scores.answerable, evaluation.scores.ap, np.inf), kind="stable")
    answered = order[: int(evaluation.scores.answerable.sum())]
    shown = min(SHOWN_QUERIES, len(answered))
    return environment.get_template("report.html.jinja").render(
        title=f"{evaluation.space.model}, version {evaluation.space.version}",
        report=report,
        left_out=(*evaluation.left_out_queries, *evaluation.left_out_references),
        bars=_histogram(evaluation),
        worst=_gallery(evaluation, answered[:shown]),
        best=_gallery(evaluation, answered[::-1][:shown]),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


@dataclass(frozen=True)
class _Hit:
    picture: PictureFile
    score: float
    right: bool


def _hits(evaluation: Evaluation, row: int) -> list[_Hit]:
    places, scores = evaluation.ranking.indices[row, :SHOWN_HITS], evaluation.ranking.scores[row, :SHOWN_HITS]
    hits = [(evaluation.references[place], float(score)) for place, score in zip(places, scores, strict=True)]
    return [_Hit(picture, score, picture.label == evaluation.queries[row].label) for picture, score in hits]


def _gallery(evaluation: Evaluation, rows: Sequence[int] | np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    return [
        {
            "query": evaluation.queries[row],
            "picture": _data_uri(evaluation.queries[row].path),
            "ap": float(evaluation.scores.ap[row]),
            "hits": [(hit, _data_uri(hit.picture.path)) for hit in _hits(evaluation, row)],
        }
        for row in rows
    ]


def _data_uri(file: Path) -> str:
    """Return a small picture of `file` that a page can hold; empty if it cannot be read any more."""
    try:
        small = thumbnail(decode(file.read_bytes()), side=_THUMBNAIL_SIDE)
    except (OSError, PictureError):
        return ""
    return f"data:image/webp;base64,{base64.b64encode(small).decode('ascii')}"


def _histogram(evaluation: Evaluation) -> list[dict[str, float]]:
    counts, edges = np.histogram(evaluation.scores.ap[evaluation.scores.answerable], bins=_BINS, range=(0, 1))
    most = max(1, int(counts.max()))
    return [
        {"low": float(low), "high": float(high), "count": int(count), "share": int(count) / most}
        for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True)
    ]


def _ends(interval: Interval) -> list[float]:
    return [interval.low, interval.high]
