"""Messages and values say the same."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message

from lookalike import DbaSpec, DbaWeights, Init, Item, Job, Space, State, TrainSpec, WeightsFile
from lookalike import _models as models
from lookalike._wire import read, write
from lookalike_protos.embedder.v1 import embedder_pb2
from lookalike_protos.embedder.v1 import models_pb2 as served_pb2
from lookalike_protos.indexer.v1 import builds_pb2, collections_pb2, items_pb2, search_pb2
from lookalike_protos.trainer.v1 import datasets_pb2, jobs_pb2, models_pb2
from lookalike_protos.types.v1 import dba_pb2, operations_pb2, space_pb2

# What is read off the wire by field name, with its message.
PAIRS: list[tuple[type[Any], type[Message]]] = [
    (models.Space, space_pb2.Space),
    (models.DbaSpec, dba_pb2.DbaSpec),
    (models.Progress, operations_pb2.Progress),
    (models.Event, operations_pb2.Event),
    (models.ManifestEntry, datasets_pb2.ManifestEntry),
    (models.DatasetRevision, datasets_pb2.DatasetRevision),
    (models.Dataset, datasets_pb2.Dataset),
    (models.WeightsFile, jobs_pb2.WeightsFile),
    (models.Init, jobs_pb2.Init),
    (models.TrainSpec, jobs_pb2.TrainSpec),
    (models.ImportSpec, jobs_pb2.ImportSpec),
    (models.EnsembleSpec, jobs_pb2.EnsembleSpec),
    (models.EnsembleMember, jobs_pb2.EnsembleMember),
    (models.ProfileSpec, jobs_pb2.ProfileSpec),
    (models.Job, jobs_pb2.Job),
    (models.ModelProfile, models_pb2.ModelProfile),
    (models.ModelVersion, models_pb2.ModelVersion),
    (models.Model, models_pb2.Model),
    (models.ServedModel, served_pb2.ServedModel),
    (models.Cost, embedder_pb2.Cost),
    (models.Target, embedder_pb2.Target),
    (models.Collection, collections_pb2.Collection),
    (models.Alias, collections_pb2.Alias),
    (models.Item, items_pb2.Item),
    (models.DeleteResult, items_pb2.DeleteItemsResponse),
    (models.Expansion, search_pb2.Expansion),
    (models.BuildSpec, builds_pb2.BuildSpec),
    (models.EffortPoint, builds_pb2.EffortPoint),
    (models.PlanEntry, builds_pb2.PlanEntry),
    (models.BuildReport, builds_pb2.BuildReport),
    (models.Build, builds_pb2.Build),
]


def test_every_value_has_the_fields_of_its_message() -> None:
    for kind, message in PAIRS:
        ours = {field.name.rstrip("_") for field in dataclasses.fields(kind)}
        assert ours == {field.name for field in message.DESCRIPTOR.fields}, kind.__name__
        assert isinstance(read(kind, message()), kind)


def test_what_is_written_is_read_back() -> None:
    for value, message in (
        (Space("ls1:00", "shoes", 3, "plain", 64), space_pb2.Space),
        (DbaSpec(3, DbaWeights.RANK), dba_pb2.DbaSpec),
        (Init(weights=WeightsFile("resnet50", "ab")), jobs_pb2.Init),
        (TrainSpec("datasets/d", "m", "triplet", {"loop.epochs": "3"}, Init(random="resnet18"), 7), jobs_pb2.TrainSpec),
        (Item("a/b.png", "a", "pictures/a/b.png", b"\x01", b"\x02", {"size": 4.0, "tags": ["x"]}), items_pb2.Item),
    ):
        assert read(type(value), write(value, message)) == value


def test_absent_parts_are_none_and_present_ones_are_not() -> None:
    job = read(Job, jobs_pb2.Job(name="jobs/1", state=operations_pb2.STATE_RUNNING))
    assert (job.train, job.import_, job.progress, job.error, job.start_time) == (None, None, None, None, None)
    message = jobs_pb2.Job(name="jobs/1")
    getattr(message, "import").model = "m"
    message.create_time.FromDatetime(datetime(2026, 1, 2, tzinfo=UTC))
    job = read(Job, message)
    assert job.import_ is not None
    assert job.import_.model == "m"
    assert job.create_time == datetime(2026, 1, 2, tzinfo=UTC)


def test_state_of_a_newer_server_is_unspecified_and_no_error() -> None:
    assert read(Job, jobs_pb2.Job(state=99)).state is State.UNSPECIFIED  # type: ignore[arg-type]
    assert not State.UNSPECIFIED.ended
    assert State.FAILED.ended
