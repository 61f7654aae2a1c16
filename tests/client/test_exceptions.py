"""Errors carry what a program needs, and the drawn tree is the real one."""

from __future__ import annotations

import re

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from lookalike import _exceptions
from lookalike._status import error_of, problem_of


def packed(message: Message) -> AnyMessage:
    wrapped = AnyMessage()
    wrapped.Pack(message)
    return wrapped


def drawn_tree() -> dict[str, str]:
    """Class to base, as the module's docstring draws it."""
    parents: dict[str, str] = {}
    levels: dict[int, str] = {0: "LookalikeError"}
    for line in (_exceptions.__doc__ or "").splitlines():
        if match := re.match(r"([│├└─ ]+)(\w+)", line):
            depth = len(match[1]) // 4
            levels[depth] = match[2]
            parents[match[2]] = levels[depth - 1]
    return parents


def test_drawn_tree_is_the_tree_of_classes() -> None:
    real = {
        name: value.__mro__[1].__name__
        for name, value in vars(_exceptions).items()
        if isinstance(value, type) and issubclass(value, _exceptions.LookalikeError) and name != "LookalikeError"
    }
    assert drawn_tree() == real


def test_error_carries_code_reason_metadata_violations_and_delay() -> None:
    retry = RetryInfo()
    retry.retry_delay.FromMilliseconds(1500)
    details = [
        packed(ErrorInfo(reason="QUEUE_FULL", domain="lookalike", metadata={"queue": "bulk"})),
        packed(BadRequest(field_violations=[BadRequest.FieldViolation(field="k", description="too large")])),
        packed(retry),
    ]
    error = error_of(problem_of(Status(code=8, message="full", details=details)))
    assert isinstance(error, _exceptions.ResourceExhausted)
    assert (error.code, error.reason, error.metadata) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL", {"queue": "bulk"})
    assert error.violations == (_exceptions.Violation("k", "too large"),)
    assert error.retry_after == 1.5
    assert str(error) == "full"


def test_mismatch_of_spaces_has_a_class_of_its_own() -> None:
    status = Status(code=9, message="no", details=[packed(ErrorInfo(reason="SPACE_MISMATCH"))])
    error = error_of(problem_of(status))
    assert isinstance(error, _exceptions.SpaceMismatch)
    assert isinstance(error, _exceptions.FailedPrecondition)


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status_becomes_an_error_with_its_code(code: grpc.StatusCode) -> None:
    assert error_of(problem_of(Status(code=code.value[0], message="no"))).code == code.name
