"""Messages to records and back, with the checks of the limits that the protos state."""

from __future__ import annotations

import re

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.status_pb2 import Status
from numpy.typing import NDArray

from lookalike_indexer.collection import require_space
from lookalike_indexer.collections import Summary
from lookalike_indexer.failures import error_of
from lookalike_indexer.records import (
    Build,
    BuildReport,
    Collection,
    Dba,
    DType,
    EffortPoint,
    Engine,
    Event,
    Failure,
    PlanEntry,
    Progress,
    Source,
    Space,
    now,
)
from lookalike_protos.indexer.v1 import builds_pb2, collections_pb2
from lookalike_protos.packing import PackingError, unpack_vectors
from lookalike_protos.types.v1 import dba_pb2, operations_pb2, space_pb2, vectors_pb2
from lookalike_retrieval.dba import DEFAULT_POWER
from lookalike_runtime.errors import invalid_field
from lookalike_runtime.resource_names import parse_name
from lookalike_runtime.status import status_of

FINGERPRINT = re.compile(r"ls1:[0-9a-f]{64}")
MAX_NAME_BYTES = 63
MAX_DIM = 16_384
MAX_DBA_K = 100
LATEST_SECOND = 253_402_300_799
MAX_DBA_POWER = 20
MAX_DBA_ROUNDS = 10

WEIGHTS = {
    "equal": dba_pb2.DBA_WEIGHTS_EQUAL,
    "linear": dba_pb2.DBA_WEIGHTS_LINEAR,
    "rank": dba_pb2.DBA_WEIGHTS_RANK,
    "power": dba_pb2.DBA_WEIGHTS_POWER,
}
WEIGHTS_BY_NUMBER = {number: name for name, number in WEIGHTS.items()} | {dba_pb2.DBA_WEIGHTS_UNSPECIFIED: "linear"}
ENGINES: dict[Engine, collections_pb2.Engine.ValueType] = {
    "annoy": collections_pb2.ENGINE_ANNOY,
    "exact": collections_pb2.ENGINE_EXACT,
    "hnsw": collections_pb2.ENGINE_HNSW,
}
DTYPES: dict[DType, vectors_pb2.DType.ValueType] = {"float32": vectors_pb2.D_TYPE_FLOAT32, "float16": vectors_pb2.D_TYPE_FLOAT16}
SOURCES: dict[Source, builds_pb2.Source.ValueType] = {
    "annoy": builds_pb2.SOURCE_ANNOY,
    "scan": builds_pb2.SOURCE_SCAN,
    "ivf": builds_pb2.SOURCE_IVF,
    "exact": builds_pb2.SOURCE_EXACT,
    "hnsw": builds_pb2.SOURCE_HNSW,
}


def collection_name(name: str) -> str:
    return f"collections/{name}"


def build_name(collection: str, number: int) -> str:
    return f"collections/{collection}/builds/{number}"


def collection_id(field: str, value: str) -> str:
    """Return the C of `collections/C`."""
    return parse_name(field, value, "collections")[0]


def timestamp(microseconds: int) -> Timestamp:
    moment = Timestamp()
    set_timestamp(moment, microseconds)
    return moment


def set_timestamp(moment: Timestamp, microseconds: int) -> None:
    moment.seconds, moment.nanos = microseconds // 1_000_000, microseconds % 1_000_000 * 1_000


def expire_time_of(field: str, moment: Timestamp) -> int:
    """Return a time to come; raises InvalidArgument naming `field`."""
    if not 0 <= moment.seconds <= LATEST_SECOND or not 0 <= moment.nanos < 1_000_000_000:
        raise invalid_field(field, f"{moment.seconds} s and {moment.nanos} ns are no time from 1970 to 9999")
    if moment.ToMicroseconds() <= now():
        raise invalid_field(field, f"{moment.ToJsonString()} has passed: send a time to come, or none")
    return moment.ToMicroseconds()


def in_range(field: str, value: int, least: int, most: int) -> int:
    """Return `value`; raises InvalidArgument naming `field` if it is out of range."""
    if not least <= value <= most:
        raise invalid_field(field, f"{value} is out of range: {least:,} to {most:,}")
    return value


def space_of(field: str, message: space_pb2.Space) -> Space:
    """Return a space; raises InvalidArgument naming what is wrong in `field`."""
    if not FINGERPRINT.fullmatch(message.fingerprint):
        raise invalid_field(f"{field}.fingerprint", f"{message.fingerprint[:80]!r} is no fingerprint: `ls1:` and 64 hexadecimal digits")
    for name, value in (("model", message.model), ("profile", message.profile)):
        if len(value.encode()) > MAX_NAME_BYTES:
            raise invalid_field(f"{field}.{name}", f"{value[:40]!r}… is longer than {MAX_NAME_BYTES} bytes")
    in_range(f"{field}.dim", message.dim, 1, MAX_DIM)
    if message.metric != space_pb2.METRIC_COSINE:
        raise invalid_field(f"{field}.metric", f"{message.metric} is no metric that can be served: send METRIC_COSINE")
    return Space(fingerprint=message.fingerprint, model=message.model, version=message.version, profile=message.profile, dim=message.dim)


def space_message(space: Space) -> space_pb2.Space:
    return space_pb2.Space(**space.model_dump(), metric=space_pb2.METRIC_COSINE)


def vectors_of(field: str, batch: vectors_pb2.VectorBatch, expected: Space, whose: str) -> NDArray[np.float32]:
    """Return vectors, float32 [n, dim], after holding their space against the collection's.

    Raises InvalidArgument for a batch that is not what it says, FailedPrecondition for one of another space.
    """
    require_space(expected, space_of(f"{field}.space", batch.space), whose=whose)
    try:
        return unpack_vectors(batch)
    except PackingError as error:
        raise invalid_field(f"{field}.{error.field}", str(error)) from None


def dba_of(field: str, message: dba_pb2.DbaSpec) -> Dba:
    """Return how to augment; raises InvalidArgument naming what is wrong in `field`."""
    in_range(f"{field}.k", message.k, 0, MAX_DBA_K)
    weights = WEIGHTS_BY_NUMBER.get(message.weights)
    if weights is None:
        raise invalid_field(f"{field}.weights", f"{message.weights} is unknown: send equal, linear, rank or power")
    rounds = in_range(f"{field}.rounds", message.rounds, 0, MAX_DBA_ROUNDS) or 1
    if weights != "power" and message.power != 0:
        raise invalid_field(f"{field}.power", f"{message.power:g} is without meaning with {weights} weights: leave it out")
    if not 0 <= message.power <= MAX_DBA_POWER:
        raise invalid_field(f"{field}.power", f"{message.power:g} is out of range: above 0, to {MAX_DBA_POWER}; 0 for {DEFAULT_POWER:g}")
    return Dba.model_validate({"k": message.k, "weights": weights, "power": message.power or DEFAULT_POWER, "rounds": rounds})


def dba_message(dba: Dba) -> dba_pb2.DbaSpec:
    power = dba.power if dba.weights == "power" else 0
    return dba_pb2.DbaSpec(k=dba.k, weights=WEIGHTS[dba.weights], power=power, rounds=dba.rounds)


def collection_message(summary: Summary) -> collections_pb2.Collection:
    record = summary.record
    return collections_pb2.Collection(
        name=collection_name(record.name),
        uid=record.uid,
        space=space_message(record.space),
        engine=ENGINES[record.engine],
        dba=dba_message(record.dba),
        recall_target=record.recall_target,
        revision=summary.revision,
        item_count=summary.item_count,
        fresh_item_count=summary.fresh_item_count,
        active_build=build_name(record.name, record.active_build) if record.active_build else "",
        create_time=timestamp(record.create_time),
        expire_time=timestamp(record.expire_time) if record.expire_time is not None else None,
        etag=summary.etag,
        dtype=DTYPES[record.dtype],
    )


def build_message(collection: Collection, build: Build) -> builds_pb2.Build:
    active = build.number == collection.active_build
    spec = builds_pb2.BuildSpec(
        dba=dba_message(build.spec.dba) if build.spec.dba else None,
        trees=build.spec.trees,
        reduced_dim=build.spec.reduced_dim,
        force_engine=build.spec.force_engine,
        purge=build.spec.purge,
    )
    return builds_pb2.Build(
        name=build_name(collection.name, build.number),
        spec=spec,
        state=operations_pb2.State.Value(f"STATE_{build.state}"),
        progress=_progress_message(build.progress),
        active=active,
        revision=build.report.revision if build.report else 0,
        report=_report_message(build.report) if build.report and build.state == "SUCCEEDED" else None,
        error=_failure_message(build.error),
        create_time=timestamp(build.create_time),
        end_time=timestamp(build.end_time) if build.end_time else None,
        kept=build.kept,
        pinned=active and collection.pinned,
        automatic=build.automatic,
    )


def event_message(event: Event) -> operations_pb2.Event:
    return operations_pb2.Event(
        sequence=event.sequence,
        time=timestamp(event.time),
        state=operations_pb2.State.Value(f"STATE_{event.state}"),
        progress=_progress_message(event.progress),
        message=event.message,
        metrics=event.metrics,
        error=_failure_message(event.error),
    )


def progress_message(progress: Progress) -> operations_pb2.Progress:
    return operations_pb2.Progress(**progress.model_dump())


def _progress_message(progress: Progress | None) -> operations_pb2.Progress | None:
    return progress_message(progress) if progress else None


def _failure_message(failure: Failure | None) -> Status | None:
    return status_of(error_of(failure)) if failure else None


def _report_message(report: BuildReport) -> builds_pb2.BuildReport:
    return builds_pb2.BuildReport(
        engine=ENGINES[report.engine],
        reason=report.reason,
        item_count=report.item_count,
        dba=dba_message(report.dba),
        trees=report.trees,
        reduced_dim=report.reduced_dim,
        curve=[_effort_message(point) for point in report.curve],
        chosen=_effort_message(report.chosen) if report.chosen else None,
        plan=map(plan_message, report.plan),
        measured=map(plan_message, report.measured),
        recall_target=report.recall_target,
        probe_count=report.probe_count,
        size_bytes=report.size_bytes,
        seconds=report.seconds,
    )


def _effort_message(point: EffortPoint) -> builds_pb2.EffortPoint:
    return builds_pb2.EffortPoint(
        search_k=point.search_k,
        depth=point.depth,
        recall_at_10=point.recall,
        recall_at_10_low=point.recall_low,
        milliseconds=point.milliseconds,
    )


def plan_message(entry: PlanEntry) -> builds_pb2.PlanEntry:
    return builds_pb2.PlanEntry(**{**entry.model_dump(), "source": SOURCES[entry.source]})
