"""manifest.json of a build: what its files are and what they must hold. Written last; a build without it is none."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import ValidationError

from lookalike_indexer.candidates.annoy import METRIC
from lookalike_indexer.records import BuildReport, Record, Space

MANIFEST_FILE = "manifest.json"
VECTORS_FILE = "vectors.f32"
IDS_FILE = "ids.json"
# 3: one projection for all sources, and what was measured.
_FORMAT = 3


class DamagedBuild(Exception):
    """A build whose files cannot be served."""


class FileRecord(Record):
    size: int
    sha256: str


class Manifest(Record):
    """`metric` is Annoy's, over vectors of `report.reduced_dim` dimensions; `dim` is that of the served vectors.

    Searches follow `report.plan`.
    """

    format: int
    fingerprint: str
    dim: int
    metric: str
    report: BuildReport
    files: dict[str, FileRecord]


def write_manifest(folder: Path, space: Space, report: BuildReport) -> BuildReport:
    """Describe all files of a build; returns the report with their size."""
    files = {path.name: _describe(path) for path in sorted(folder.iterdir())}
    report = report.model_copy(update={"size_bytes": sum(each.size for each in files.values())})
    manifest = Manifest(format=_FORMAT, fingerprint=space.fingerprint, dim=space.dim, metric=METRIC, report=report, files=files)
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    return report


def read_manifest(folder: Path, space: Space) -> Manifest:
    """Return the manifest of a build after comparing every file with it; raises DamagedBuild."""
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
        for name, expected in manifest.files.items():
            if _describe(folder / Path(name).name) != expected:
                raise DamagedBuild(f"{folder / name} differs from its checksum")
    except (OSError, ValidationError) as error:
        raise DamagedBuild(f"{folder}: {error}") from error
    found = (manifest.format, manifest.fingerprint, manifest.dim, manifest.metric)
    if found != (_FORMAT, space.fingerprint, space.dim, METRIC):
        raise DamagedBuild(f"{folder} is of another format, space, dimension or metric: {found}; build the collection again")
    vectors = manifest.files.get(VECTORS_FILE)
    if vectors is None or vectors.size != manifest.report.item_count * space.dim * 4:
        raise DamagedBuild(f"{folder / VECTORS_FILE} does not hold {manifest.report.item_count} rows")
    return manifest


def _describe(path: Path) -> FileRecord:
    with path.open("rb") as file:
        return FileRecord(size=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())
