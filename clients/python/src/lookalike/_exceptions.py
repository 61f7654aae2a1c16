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
    code = "INVALID_ARGUMENT"


class ServerNotReachable(LookalikeError):
    """`metadata` holds the `service` and its `address`."""

    code = "UNAVAILABLE"


class ServersNotStarted(LookalikeError):
    code = "FAILED_PRECONDITION"


class WorkFailed(LookalikeError):
    """`metadata["name"]` is the job or build."""

    code = "ABORTED"


class WorkIncomplete(LookalikeError):
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
    code = "INVALID_ARGUMENT"


class NotFound(CallFailed):
    code = "NOT_FOUND"


class AlreadyExists(CallFailed):
    code = "ALREADY_EXISTS"


class FailedPrecondition(CallFailed):
    code = "FAILED_PRECONDITION"


class SpaceMismatch(FailedPrecondition):
    pass


class PermissionDenied(CallFailed):
    code = "PERMISSION_DENIED"


class Unauthenticated(CallFailed):
    code = "UNAUTHENTICATED"


class Aborted(CallFailed):
    code = "ABORTED"


class ResourceExhausted(CallFailed):
    code = "RESOURCE_EXHAUSTED"


class Unavailable(CallFailed):
    code = "UNAVAILABLE"


class DeadlineExceeded(CallFailed):
    code = "DEADLINE_EXCEEDED"


class DataLoss(CallFailed):
    code = "DATA_LOSS"
