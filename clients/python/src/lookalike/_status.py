"""google.rpc.Status to exceptions and problems: the one place that reads the details of errors."""

from __future__ import annotations

import grpc
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from lookalike import _exceptions as errors
from lookalike._models import Problem

_TYPES = (
    errors.InvalidArgument,
    errors.NotFound,
    errors.AlreadyExists,
    errors.FailedPrecondition,
    errors.PermissionDenied,
    errors.Unauthenticated,
    errors.Aborted,
    errors.ResourceExhausted,
    errors.Unavailable,
    errors.DeadlineExceeded,
    errors.DataLoss,
)
_BY_CODE: dict[str, type[errors.CallFailed]] = {each.code: each for each in _TYPES}

# A server may end a call while the client still writes; grpc.aio then forgets the status that the server gave
# (https://github.com/grpc/grpc/issues/36066). Whoever sends streams has to find out in another way.
BROKEN_WHILE_SENDING = "BROKEN_WHILE_SENDING"
_MASKED = "Internal error from Core"


def problem_of(status: Status) -> Problem:
    """Return what `status` says, details included."""
    info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
    for detail in status.details:
        for known in (info, bad, retry):
            if detail.Is(known.DESCRIPTOR):
                detail.Unpack(known)
    return Problem(
        code=Code.Name(status.code) if status.code in Code.values() else f"CODE_{status.code}",
        reason=info.reason,
        message=status.message,
        metadata=dict(info.metadata),
        violations=tuple(errors.Violation(each.field, each.description) for each in bad.field_violations),
        retry_after=retry.retry_delay.ToNanoseconds() / 1e9 if retry.HasField("retry_delay") else None,
    )


def error_of(problem: Problem) -> errors.CallFailed:
    """Return the exception for `problem`."""
    kind = _BY_CODE.get(problem.code, errors.CallFailed)
    if problem.reason == "SPACE_MISMATCH":
        kind = errors.SpaceMismatch
    return kind(
        problem.message,
        code=problem.code,
        reason=problem.reason,
        metadata=problem.metadata,
        violations=problem.violations,
        retry_after=problem.retry_after,
    )


def error_of_call(error: grpc.aio.AioRpcError, service: str, address: str, found: str) -> errors.LookalikeError:
    """Return the exception for a call to `service` at `address` that failed; `found` says where the address comes from."""
    status = rpc_status.from_call(error)
    if status is not None:
        return error_of(problem_of(status))
    if error.code() is grpc.StatusCode.INTERNAL and error.details() == _MASKED:
        return errors.Unavailable(
            f"the {service} at {address} ended the call while something was being sent to it: try again", reason=BROKEN_WHILE_SENDING
        )
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return errors.ServerNotReachable(
            f"no {service} answers at {address} ({found}): start the servers with `lookalike up`, or name its address with --{service}",
            reason="SERVER_NOT_REACHABLE",
            metadata={"service": service, "address": address},
        )
    return error_of(Problem(code=error.code().name, reason="", message=_message(error, service, address), metadata={}))


def _message(error: grpc.aio.AioRpcError, service: str, address: str) -> str:
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"the {service} at {address} did not answer in time: look at `lookalike status`, then try again"
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return f"the {service} at {address} does not know this call: is it another server, or another version?"
    return f"the {service} at {address} answered {error.code().name}: {error.details()}"
