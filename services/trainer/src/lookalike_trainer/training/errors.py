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
    INVALID_PROFILE = "INVALID_PROFILE"
    TOO_MANY_DIMS = "TOO_MANY_DIMS"
    TOO_FEW_PICTURES = "TOO_FEW_PICTURES"
    HELD_OUT_UNKNOWN = "HELD_OUT_UNKNOWN"
    NON_FINITE_LOSS = "NON_FINITE_LOSS"
    COLLAPSED = "COLLAPSED"
    RATE_TOO_HIGH = "RATE_TOO_HIGH"
    STUCK_AT_MARGIN = "STUCK_AT_MARGIN"
    DEVICE_MISSING = "DEVICE_MISSING"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    DISK_FULL = "DISK_FULL"
    INTERNAL = "INTERNAL"


NO_ROOM_STATUS = 74
"""A worker's exit status where the disk has no room even for the reason."""


class JobError(Exception):
    """A job that cannot go on. `reason` is for programs; `str()` says what happened and what to do."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type["JobError"], tuple[Reason, str]]:
        return type(self), (self.reason, str(self))


class Cancelled(Exception):
    """The job was told to stop."""
