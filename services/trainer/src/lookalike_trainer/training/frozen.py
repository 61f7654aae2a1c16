"""What was decided for a job before its first step, kept so that a run that goes on decides nothing again."""

import os
from pathlib import Path

from lookalike_model.records import Record
from lookalike_runtime.data_folder import sync_folder
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


def write_frozen(folder: Path, frozen: Frozen) -> None:
    """Write `resolved.json` whole or not at all."""
    aside = folder / f".{FROZEN}.part"
    with aside.open("w", encoding="utf-8") as file:
        file.write(frozen.model_dump_json(indent=1))
        file.flush()
        os.fsync(file.fileno())
    aside.replace(folder / FROZEN)
    sync_folder(folder)
