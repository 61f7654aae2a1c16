"""A rank that lacks memory asks for smaller parts, in a file: the others may be anywhere in the step, so all are started again."""

from pathlib import Path

PARTS = "parts"


def ask_for_parts(job: Path, parts: int) -> None:
    """Each batch is to go through the network in so many parts. Ranks that ask at once ask for the same."""
    (job / PARTS).write_text(str(parts))


def asked_parts(job: Path) -> int:
    """What was asked for; 0 if nothing was."""
    try:
        return int((job / PARTS).read_text())
    except (OSError, ValueError):
        return 0


def forget_request(job: Path) -> None:
    """Once a checkpoint holds it."""
    (job / PARTS).unlink(missing_ok=True)
