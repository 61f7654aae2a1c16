"""What was decided for a job before its first step, kept so that a run that goes on decides nothing again."""

from pathlib import Path

from lookalike_model.records import Record
from lookalike_runtime.data_folder import write_whole
from lookalike_trainer.training.job import RUNS
from lookalike_trainer.training.resolve import ResolvedRecipe

FROZEN = "resolved.json"


class Frozen(Record):
    """The resolved recipe, and a sentence about what was measured for it; empty if nothing was."""

    resolved: ResolvedRecipe
    measured: str = ""


def read_frozen(folder: Path) -> Frozen | None:
    """What `write_frozen` wrote; None before that."""
    path = folder / FROZEN
    return Frozen.model_validate_json(path.read_bytes()) if path.exists() else None


def first_frozen(job: Path) -> Frozen | None:
    """That of the run of a job that began first; None before that."""
    begun = [*sorted((job / RUNS).glob("*")), job]
    return next((found for folder in begun if (found := read_frozen(folder))), None)


def write_frozen(folder: Path, frozen: Frozen) -> None:
    """Write `resolved.json` whole or not at all."""
    write_whole(folder / FROZEN, frozen.model_dump_json(indent=1).encode())
