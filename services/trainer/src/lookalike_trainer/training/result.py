"""How a worker hands back what came of a job."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lookalike_model.bundle import Bundle, BundleProfile
from lookalike_model.ensemble import Ensemble, EnsembleProfile
from lookalike_runtime.data_folder import write_whole
from lookalike_trainer.training.checkpoints import Checkpoints
from lookalike_trainer.training.errors import Reason
from lookalike_trainer.training.frozen import FROZEN
from lookalike_trainer.training.job import RUNS
from lookalike_trainer.training.parts_request import PARTS
from lookalike_trainer.training.position import POSITION

BUNDLE, RESULT, ERROR, SCRATCH = "bundle", "result.json", "error.json", "scratch"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a job, for `result.json`.

    Attributes:
        metrics: figures by name.
        profiles: by name fingerprint, dim and advice; of one network also what is done to its outputs.
        notes: sentences for the user.
    """

    metrics: Mapping[str, float]
    profiles: Mapping[str, Mapping[str, Any]]
    default_profile: str
    notes: tuple[str, ...]

    @classmethod
    def of(cls, bundle: Bundle | Ensemble, metrics: Mapping[str, float], notes: tuple[str, ...]) -> "Result":
        """The result whose bundle is this."""
        return cls(metrics, {name: _told(profile) for name, profile in bundle.profiles.items()}, bundle.default_profile, notes)


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of a check, for `result.json`: figures by name, sentences for the user."""

    metrics: Mapping[str, float]
    notes: tuple[str, ...]


def _told(entry: BundleProfile | EnsembleProfile) -> dict[str, Any]:
    told: dict[str, Any] = {"fingerprint": entry.fingerprint, "dim": entry.dim}
    if entry.advice.dba is not None:
        told["dba_advice"] = entry.advice.dba.model_dump(mode="json")
    if isinstance(entry, BundleProfile):
        profile = entry.profile
        told |= {"tap": profile.tap, "views": profile.views, "projected": profile.projection is not None}
    return told


def clear(folder: Path) -> None:
    """Remove half of a bundle; what a run goes on from stays, and so do the events, which are read by number."""
    for name in (BUNDLE, f".{BUNDLE}.part"):
        shutil.rmtree(folder / name, ignore_errors=True)


def clear_scratch(folder: Path) -> None:
    """Remove what a run would go on from."""
    Checkpoints(folder).clear()
    for name in (SCRATCH, RUNS):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (FROZEN, POSITION, PARTS):
        (folder / name).unlink(missing_ok=True)


def is_done(folder: Path) -> bool:
    """Whether an earlier run has finished the job."""
    return (folder / RESULT).exists()


def has_failed(folder: Path) -> bool:
    """Whether an earlier run has failed for good."""
    return (folder / ERROR).exists()


def write_result(folder: Path, result: Result | Checked) -> None:
    """Write `result.json`; once it is there, the job is done."""
    write_whole(folder / RESULT, _json(asdict(result)))


def write_error(folder: Path, reason: Reason, message: str) -> None:
    """Write `error.json`."""
    write_whole(folder / ERROR, _json({"reason": reason.value, "message": message}))


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=1, ensure_ascii=False).encode()
