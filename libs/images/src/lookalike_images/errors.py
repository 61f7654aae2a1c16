"""What can be wrong with a picture."""

from enum import StrEnum


class PictureReason(StrEnum):
    """Why a picture was refused; stable, for programs."""

    EMPTY = "EMPTY"
    """No bytes at all."""
    TOO_MANY_BYTES = "TOO_MANY_BYTES"
    """The encoded picture is larger than the limit."""
    TOO_MANY_PIXELS = "TOO_MANY_PIXELS"
    """Width × height is larger than the limit; nothing was decoded."""
    UNSUPPORTED_FORMAT = "UNSUPPORTED_FORMAT"
    """Not a picture, or of a format that is not read."""
    TRUNCATED = "TRUNCATED"
    """The end of the picture is missing."""
    CORRUPT = "CORRUPT"
    """The bytes are damaged."""


class PictureError(ValueError):
    """A picture that cannot be used. `reason` is for programs; `str()` says what was wrong and what to do."""

    def __init__(self, reason: PictureReason, message: str) -> None:
        # Both go to args, else the error could not cross a process boundary.
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message
