"""What can go wrong in a service, in plain Python: domain code raises these, `status` turns them into google.rpc.Status.

ServiceError
├── InvalidArgument      the request is wrong; `violations` name the fields
├── NotFound             what it names is not there
├── AlreadyExists        what it would make is there
├── FailedPrecondition   not in this state
├── PermissionDenied     not allowed
├── Unauthenticated      nobody knows who asks
├── Aborted              it changed meanwhile: read again
├── ResourceExhausted    too much at once, or no room; `retry_after` says when to come again
├── Unavailable          starting or draining
├── DataLoss             what arrived is not what was sent
└── Internal             a part of the server came to nothing, by no fault of the caller
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple


class FieldViolation(NamedTuple):
    """A field of a request and what is wrong with it."""

    field: str
    description: str


class ServiceError(Exception):
    """An answer that is an error.

    `reason` is stable and upper-case, for programs; the message is for people: what was wrong, with which value, what to do.
    `metadata` holds the values by name; `retry_after` is in seconds.
    """

    code: ClassVar[str] = "UNKNOWN"

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[FieldViolation] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after = retry_after


class InvalidArgument(ServiceError):
    code = "INVALID_ARGUMENT"


class NotFound(ServiceError):
    code = "NOT_FOUND"


class AlreadyExists(ServiceError):
    code = "ALREADY_EXISTS"


class FailedPrecondition(ServiceError):
    code = "FAILED_PRECONDITION"


class PermissionDenied(ServiceError):
    code = "PERMISSION_DENIED"


class Unauthenticated(ServiceError):
    code = "UNAUTHENTICATED"


class Aborted(ServiceError):
    code = "ABORTED"


class ResourceExhausted(ServiceError):
    code = "RESOURCE_EXHAUSTED"


class Unavailable(ServiceError):
    code = "UNAVAILABLE"


class DataLoss(ServiceError):
    code = "DATA_LOSS"


class Internal(ServiceError):
    code = "INTERNAL"


def invalid_field(field: str, description: str) -> InvalidArgument:
    """Return the error for one wrong field of a request."""
    return InvalidArgument("INVALID_FIELD", f"{field}: {description}", violations=[FieldViolation(field, description)])
