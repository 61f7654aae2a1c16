"""Errors as records, which pass between processes and are kept with a build, and back."""

from __future__ import annotations

from lookalike_indexer.records import Failure
from lookalike_runtime.errors import ServiceError


def failure_of(error: ServiceError) -> Failure:
    return Failure(code=error.code, reason=error.reason, message=error.message)


def error_of(failure: Failure) -> ServiceError:
    kinds = {kind.code: kind for kind in ServiceError.__subclasses__()}
    return kinds.get(failure.code, ServiceError)(failure.reason, failure.message)
