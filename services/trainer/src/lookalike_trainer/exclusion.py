"""Pictures that a training leaves out, as a file of their paths."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from lookalike_trainer.job_spec import Excluded


def list_bytes(paths: Iterable[str]) -> bytes:
    """The file that lists these paths, equal for equal sets of them."""
    return json.dumps(sorted(set(paths)), ensure_ascii=False).encode()


def excluded_by(paths: Iterable[str]) -> Excluded | None:
    """What a job keeps of these paths; None for none."""
    listed = set(paths)
    return Excluded(count=len(listed), sha256=hashlib.sha256(list_bytes(listed)).hexdigest()) if listed else None


def read_excluded(file: Path) -> frozenset[str]:
    """The paths that a file lists."""
    return frozenset(json.loads(file.read_bytes()))
