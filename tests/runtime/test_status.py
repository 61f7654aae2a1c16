from __future__ import annotations

from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo

from lookalike_runtime.errors import ResourceExhausted, invalid_field
from lookalike_runtime.status import status_of


def test_a_status_carries_reason_fields_and_delay() -> None:
    status = status_of(ResourceExhausted("QUEUE_FULL", "full", retry_after=0.25, metadata={"queue": "bulk"}))
    info, retry = ErrorInfo(), RetryInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert (status.code, info.reason, info.metadata["queue"]) == (Code.RESOURCE_EXHAUSTED, "QUEUE_FULL", "bulk")
    assert retry.retry_delay.ToTimedelta().total_seconds() == 0.25


def test_a_wrong_field_is_named() -> None:
    bad = BadRequest()
    assert status_of(invalid_field("k", "0 is out of range")).details[1].Unpack(bad)
    assert bad.field_violations[0].field == "k"
