"""What can go wrong.

LookalikeError
├── InputError            what was given is wrong, found out before any server was asked
├── ServerNotReachable    no server answers at an address
├── ServersNotStarted     `lookalike up` could not start a server, or found others
├── WorkFailed            a job or a build ended without a result
├── WorkIncomplete        a result failed its check, and was not kept
└── CallFailed            a server answered with an error
    ├── InvalidArgument
    ├── NotFound
    ├── AlreadyExists
    ├── FailedPrecondition
    │   └── SpaceMismatch     vectors of one space met a collection of another
    ├── PermissionDenied
    ├── Unauthenticated
    ├── Aborted
    ├── ResourceExhausted
    ├── Unavailable
    ├── DeadlineExceeded
    └── DataLoss
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Violation(NamedTuple):
    """A field of a request and what is wrong with it."""

    field: str
    description: str


class LookalikeError(Exception):
    """Any error of this package; `str()` says what was wrong, with which value, and what to do.

    Attributes:
        code: google.rpc code by name, such as `NOT_FOUND`.
        reason: stable and upper-case, for programs, such as `MODEL_NOT_FOUND`.
        metadata: the values behind the message, by name.
        violations: wrong fields of the request.
        retry_after: seconds after which another try makes sense, or None.
    """

    code: str = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after = retry_after


class InputError(LookalikeError):
    """What was given is wrong; no server was asked to do anything yet."""

    code = "INVALID_ARGUMENT"


class ServerNotReachable(LookalikeError):
    """`metadata` holds the `service` and its `address`."""

    code = "UNAVAILABLE"


class ServersNotStarted(LookalikeError):
    """The servers on this machine could not be started."""

    code = "FAILED_PRECONDITION"


class WorkFailed(LookalikeError):
    """`metadata["name"]` is the job or build."""

    code = "ABORTED"


class WorkIncomplete(LookalikeError):
    """A result lacks a part, and was not kept."""

    code = "DATA_LOSS"


class CallFailed(LookalikeError):
    """`code` is the status that the server gave; codes without a class of their own arrive as this one."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata, violations=violations, retry_after=retry_after)
        if code is not None:
            self.code = code


class InvalidArgument(CallFailed):
    """A request is wrong; `violations` name the fields."""

    code = "INVALID_ARGUMENT"


class NotFound(CallFailed):
    """What it names is not there."""

    code = "NOT_FOUND"


class AlreadyExists(CallFailed):
    """What it would make is there."""

    code = "ALREADY_EXISTS"


class FailedPrecondition(CallFailed):
    """Not in this state."""

    code = "FAILED_PRECONDITION"


class SpaceMismatch(FailedPrecondition):
    """Vectors of one space met a collection of another; the message names both."""


class PermissionDenied(CallFailed):
    """The token does not allow it."""

    code = "PERMISSION_DENIED"


class Unauthenticated(CallFailed):
    """The server wants a token."""

    code = "UNAUTHENTICATED"


class Aborted(CallFailed):
    """It changed meanwhile: read again."""

    code = "ABORTED"


class ResourceExhausted(CallFailed):
    """Too much at once, or no room; `retry_after` says when to come again."""

    code = "RESOURCE_EXHAUSTED"


class Unavailable(CallFailed):
    """The server starts or drains."""

    code = "UNAVAILABLE"


class DeadlineExceeded(CallFailed):
    """No answer in time."""

    code = "DEADLINE_EXCEEDED"


class DataLoss(CallFailed):
    """What arrived is not what was sent."""

    code = "DATA_LOSS"
