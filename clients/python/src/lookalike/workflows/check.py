"""What is wrong with a dataset: asking for a check, fetching what it found, and leaving pictures out of a training."""

from __future__ import annotations

import asyncio
import csv
from pathlib import Path

from lookalike._client import AsyncClient
from lookalike._exceptions import InputError
from lookalike._models import CheckSpec, Job
from lookalike._names import numbered_name, version_name

CHECK_FILES = ("report.html", "checks.json", "suspects.csv")
MAX_EXCLUDED = 10_000


async def start_check(client: AsyncClient, dataset: str, model: str | None = None) -> Job:
    """Queue a check of a dataset; what looks alike is told by `model`, or by the built-in weights."""
    version = (await client.trainer.get_model_version(version_name(model))).name if model else ""
    return await client.trainer.create_job(CheckSpec(numbered_name("datasets", "revisions", dataset), version))


async def save_report(client: AsyncClient, job: str, folder: Path) -> tuple[Path, ...]:
    """Fetch what `jobs/J` found about its data, `CHECK_FILES`, into a folder."""
    return tuple([await client.trainer.download_job_file(job, name, folder) for name in CHECK_FILES])


async def read_excluded(file: Path) -> tuple[str, ...]:
    """Return the paths of a CSV file: its column `path`, such as `suspects.csv` has, or its only column.

    Raises InputError for anything else, and for more than 10,000 paths.
    """
    return await asyncio.to_thread(_read_excluded, file)


def _read_excluded(file: Path) -> tuple[str, ...]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            rows = [row for row in csv.reader(opened) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file} cannot be read: {error}", reason="BAD_CSV") from None
    head = [cell.strip().lower() for cell in rows[0]] if rows else []
    if "path" in head:
        column, rows = head.index("path"), rows[1:]
    elif all(len(row) == 1 for row in rows):
        column = 0
    else:
        raise InputError(f"{file} has several columns and none is called path: name them in its first line", reason="BAD_CSV")
    if short := next((number for number, row in enumerate(rows, start=2) if len(row) <= column or not row[column].strip()), None):
        raise InputError(f"{file}, line {short}: there is no path", reason="BAD_CSV")
    paths = tuple(dict.fromkeys(row[column].strip() for row in rows))
    if len(paths) > MAX_EXCLUDED:
        raise InputError(f"{file} lists {len(paths):,} pictures, at most {MAX_EXCLUDED:,} can be left out", reason="TOO_MANY")
    return paths
