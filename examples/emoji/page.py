"""The demo's page: one HTML file that holds all it shows."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from lookalike_images import decode, thumbnail

SHOWN_HITS = 8
SHOWN_QUERIES = 8
PICTURE_SIDE = 64


@dataclass(frozen=True)
class MapPoint:
    """A picture on a map: where it lies, 0 to 1, and what it is."""

    picture: str
    label: str
    x: float
    y: float


@dataclass(frozen=True)
class EmbeddingMap:
    """A flat map of embeddings and what it shows."""

    title: str
    points: Sequence[MapPoint]
    agreement: float


@dataclass(frozen=True)
class GalleryRow:
    """A query with its first hits."""

    picture: str
    label: str
    ap: float
    hits: Sequence[Mapping[str, Any]]


def render_page(facts: Mapping[str, Any], charts: Mapping[str, str], maps: Sequence[EmbeddingMap], gallery: Mapping[str, Any]) -> str:
    """Return the page; `facts` is the report, `charts` holds SVG by name, `gallery` rows by heading."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html.j2")
    return template.render(facts=facts, charts=charts, maps=maps, gallery=gallery)


@cache
def picture_uri(path: Path) -> str:
    """Return the picture at `path`, made small, as a data URI."""
    small = thumbnail(decode(path.read_bytes()), side=PICTURE_SIDE)
    return "data:image/webp;base64," + base64.b64encode(small).decode("ascii")


def gallery_rows(per_query: Sequence[Mapping[str, Any]], queries: Path, references: Path) -> dict[str, list[GalleryRow]]:
    """Return rows for the gallery out of an evaluation's queries: the worst, and an even sample of those that are all right."""
    ranked = sorted((q for q in per_query if q["ap"] is not None), key=lambda q: (q["ap"], q["id"]))
    right = [q for q in ranked if q["ap"] == ranked[-1]["ap"]]
    step = max(1, len(right) // SHOWN_QUERIES)
    chosen = {"best": right[::step][:SHOWN_QUERIES], "worst": ranked[:SHOWN_QUERIES]}
    return {name: [_row(query, queries, references) for query in rows] for name, rows in chosen.items()}


def _row(query: Mapping[str, Any], queries: Path, references: Path) -> GalleryRow:
    hits = [{**hit, "picture": picture_uri(references / hit["id"])} for hit in query["hits"][:SHOWN_HITS]]
    return GalleryRow(picture_uri(queries / query["id"]), query["label"], query["ap"], hits)
