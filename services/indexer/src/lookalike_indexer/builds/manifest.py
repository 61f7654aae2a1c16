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
# Only of an augmented build: what its served vectors were made of.
RAW_FILE = "raw.f32"
NEIGHBOURS_FILE = "neighbours.u32"
WEIGHTS_FILE = "weights.f32"
SIMILARITIES_FILE = "similarities.f32"
# 2: with a plan. 3: one projection for all sources, and what was measured; an augmented build keeps the raw vectors and the neighbours.
# 4: scans by columns.
_FORMAT = 5


class DamagedBuild(Exception):
    """A build whose files cannot be served."""


class FileRecord(Record):
    size: int
    sha256: str


class Manifest(Record):
    """`metric` is Annoy's, over vectors of `report.reduced_dim` dimensions; `dim` is that of the served vectors.

    Searches follow `report.plan`. `checksum` is of all else here.
    """

    format: int
    fingerprint: str
    dim: int
    metric: str
    report: BuildReport
    files: dict[str, FileRecord]
    checksum: str = ""

    def expected_checksum(self) -> str:
        return hashlib.sha256(self.model_dump_json(exclude={"checksum"}).encode()).hexdigest()


def write_manifest(folder: Path, space: Space, report: BuildReport) -> BuildReport:
    """Describe all files of a build; returns the report with their size."""
    files = {path.name: _describe(path) for path in sorted(folder.iterdir())}
    report = report.model_copy(update={"size_bytes": sum(each.size for each in files.values())})
    manifest = Manifest(format=_FORMAT, fingerprint=space.fingerprint, dim=space.dim, metric=METRIC, report=report, files=files)
    manifest = manifest.model_copy(update={"checksum": manifest.expected_checksum()})
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
    if manifest.checksum != manifest.expected_checksum():
        raise DamagedBuild(f"{folder / MANIFEST_FILE} differs from its checksum")
    for name, width in row_files(manifest.report, space.dim).items():
        file = manifest.files.get(name)
        if file is None or file.size != manifest.report.item_count * width * 4:
            raise DamagedBuild(f"{folder / name} does not hold {manifest.report.item_count} rows of {width} values")
    return manifest


def row_files(report: BuildReport, dim: int) -> dict[str, int]:
    """Return the files of a build that hold a row an item, and how many values of 4 bytes a row has."""
    if report.dba.k == 0:
        return {VECTORS_FILE: dim}
    taken = min(report.dba.k, report.item_count - 1)
    return {VECTORS_FILE: dim, RAW_FILE: dim, NEIGHBOURS_FILE: taken, WEIGHTS_FILE: taken, SIMILARITIES_FILE: taken}


def _describe(path: Path) -> FileRecord:
    with path.open("rb") as file:
        return FileRecord(size=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())
