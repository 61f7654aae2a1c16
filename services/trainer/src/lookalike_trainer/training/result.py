"""How a worker hands back what came of a job."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lookalike_model.bundle import Bundle
from lookalike_model.ensemble import Ensemble
from lookalike_trainer.training.errors import Reason

BUNDLE, RESULT, ERROR, SCRATCH = "bundle", "result.json", "error.json", "scratch"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a job, for `result.json`.

    Attributes:
        metrics: figures by name.
        profiles: fingerprint and dim by name.
        notes: sentences for the user.
    """

    metrics: Mapping[str, float]
    profiles: Mapping[str, Mapping[str, Any]]
    default_profile: str
    notes: tuple[str, ...]

    @classmethod
    def of(cls, bundle: Bundle | Ensemble, metrics: Mapping[str, float], notes: tuple[str, ...]) -> "Result":
        """The result whose bundle is this."""
        profiles = {n: {"fingerprint": p.fingerprint, "dim": p.dim} for n, p in bundle.profiles.items()}
        return cls(metrics, profiles, bundle.default_profile, notes)


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of a check, for `result.json`: figures by name, sentences for the user."""

    metrics: Mapping[str, float]
    notes: tuple[str, ...]


def clear(folder: Path) -> None:
    """Remove what an earlier run of the job left, its events aside: those are read by number."""
    clear_scratch(folder)
    for name in (BUNDLE, f".{BUNDLE}.part"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (RESULT, ERROR):
        (folder / name).unlink(missing_ok=True)


def clear_scratch(folder: Path) -> None:
    """Remove pixels that did not fit into memory."""
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)


def write_result(folder: Path, result: Result | Checked) -> None:
    """Write `result.json`; once it is there, the job is done."""
    _write(folder / RESULT, asdict(result))


def write_error(folder: Path, reason: Reason, message: str) -> None:
    """Write `error.json`."""
    _write(folder / ERROR, {"reason": reason.value, "message": message})


def _write(path: Path, document: Mapping[str, Any]) -> None:
    aside = path.with_name(f".{path.name}.part")
    aside.write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
    aside.replace(path)
