"""How a job ends without a model."""

from enum import StrEnum


class Reason(StrEnum):
    """Why a job failed; stable, for programs."""

    TOO_FEW_CLASSES = "TOO_FEW_CLASSES"
    TOO_MANY_UNREADABLE = "TOO_MANY_UNREADABLE"
    UNKNOWN_RECIPE = "UNKNOWN_RECIPE"
    INVALID_RECIPE = "INVALID_RECIPE"
    INVALID_JOB = "INVALID_JOB"
    INVALID_NETWORK = "INVALID_NETWORK"
    WEIGHTS_MISSING = "WEIGHTS_MISSING"
    INVALID_WEIGHTS = "INVALID_WEIGHTS"
    INVALID_BUNDLE = "INVALID_BUNDLE"
    NON_FINITE_LOSS = "NON_FINITE_LOSS"
    COLLAPSED = "COLLAPSED"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    DISK_FULL = "DISK_FULL"
    INTERNAL = "INTERNAL"


class JobError(Exception):
    """A job that cannot go on. `reason` is for programs; `str()` says what happened and what to do."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Cancelled(Exception):
    """The job was told to stop."""
