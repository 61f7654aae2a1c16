"""The page: a headline, figures against what was asked, then sections of text, tables and charts."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

_PACKAGES = ("annoy", "hnswlib", "faiss-cpu", "numpy", "torch", "timm", "grpcio")


@dataclass(frozen=True)
class Figure:
    """One number and, where something was asked of it, the bound and whether it holds."""

    name: str
    value: str
    asked: str = ""
    met: bool | None = None


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows of cells that are shown as they are."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Chart:
    """An SVG drawing."""

    svg: str


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    parts: Sequence[Text | Table | Chart]


def write_report(
    out: Path, title: str, lead: str, document: Mapping[str, Any], figures: Sequence[Figure], sections: Sequence[Section]
) -> dict[str, Any]:
    """Write `report.json` (`document` with the machine and the versions) and `report.html` into `out`; returns the former."""
    out.mkdir(parents=True, exist_ok=True)
    whole = {**document, "machine": machine(), "made": datetime.now(UTC).isoformat(timespec="seconds")}
    (out / "report.json").write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=select_autoescape(default=True), undefined=StrictUndefined
    )
    page = environment.get_template("page.html.j2").render(title=title, lead=lead, figures=figures, sections=sections, whole=whole)
    (out / "report.html").write_text(page, encoding="utf-8")
    return whole


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version(), "versions": versions}
