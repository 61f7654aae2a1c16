from __future__ import annotations

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty

from lookalike_model.registry import RegistryReader
from lookalike_protos.trainer.v1 import jobs_pb2
from lookalike_protos.trainer.v1 import models_pb2 as pb
from lookalike_protos.types.v1 import dba_pb2, space_pb2

from .conftest import Start
from .trainer_process import Trainer, import_job, refused, train_job

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND


def make(trainer: Trainer, job: jobs_pb2.Job) -> jobs_pb2.Job:
    done = trainer.wait(trainer.create(job).name)
    assert done.model_version
    return done


def get(trainer: Trainer, name: str) -> pb.ModelVersion:
    version: pb.ModelVersion = trainer.models.GetModelVersion(pb.GetModelVersionRequest(name=name))
    return version


def delete(trainer: Trainer, name: str) -> None:
    assert trainer.models.DeleteModel(pb.DeleteModelRequest(name=name)) == Empty()


def test_a_version_tells_all_about_itself(trainer: Trainer) -> None:
    revision = trainer.push("told", {"boots/1": b"one", "clogs/1": b"two"})
    job = make(trainer, train_job("datasets/told", model="told"))
    version = get(trainer, job.model_version)
    assert version == get(trainer, "models/told")
    assert (version.name, version.origin, version.job) == ("models/told/versions/1", pb.ORIGIN_TRAINED, job.name)
    assert (version.dataset_fingerprint, version.default_profile) == (revision.fingerprint, "plain")
    assert (dict(version.metrics), list(version.notes)) == ({"heldout_map": 0.5}, ["made by a fake"])
    assert version.size_bytes == len("{}") + len(job.name.removeprefix("jobs/"))
    space = space_pb2.Space(fingerprint="ls1:" + "0" * 64, model="told", version=1, profile="plain", dim=8, metric=space_pb2.METRIC_COSINE)
    assert dict(version.profiles) == {
        "plain": pb.ModelProfile(space=space, dba_advice=dba_pb2.DbaSpec(k=3, weights=dba_pb2.DBA_WEIGHTS_LINEAR, rounds=1))
    }


def test_an_imported_version_says_so(trainer: Trainer) -> None:
    version = get(trainer, make(trainer, import_job("imported")).model_version)
    assert (version.origin, version.dataset_fingerprint) == (pb.ORIGIN_IMPORTED, "")


def test_models_and_versions_are_listed_in_pages(start: Start) -> None:
    trainer = start()
    for model in ("b", "a", "b", "b", "c"):
        make(trainer, import_job(model))
    whole = trainer.models.ListModels(pb.ListModelsRequest())
    assert [(model.name, model.version_count) for model in whole.models] == [("models/a", 1), ("models/b", 3), ("models/c", 1)]
    assert whole.models[1].latest == get(trainer, "models/b/versions/3")
    first = trainer.models.ListModels(pb.ListModelsRequest(page_size=2))
    second = trainer.models.ListModels(pb.ListModelsRequest(page_size=2, page_token=first.next_page_token))
    assert ([*first.models, *second.models], second.next_page_token) == (list(whole.models), "")

    newest = trainer.models.ListModelVersions(pb.ListModelVersionsRequest(parent="models/b", page_size=2))
    older = trainer.models.ListModelVersions(pb.ListModelVersionsRequest(parent="models/b", page_token=newest.next_page_token))
    assert [version.name[-1] for version in [*newest.versions, *older.versions]] == ["3", "2", "1"]
    assert older.next_page_token == ""


def test_a_deleted_version_leaves_the_registry_and_its_number_is_never_used_again(start: Start) -> None:
    trainer = start()
    registry = RegistryReader(str(trainer.folder / "registry"))
    jobs = [make(trainer, import_job("shoes")) for _ in range(2)]
    assert list(registry.index().models["shoes"].versions) == ["1", "2"]
    delete(trainer, "models/shoes/versions/2")
    assert list(registry.index().models["shoes"].versions) == ["1"]
    bundles = trainer.folder / "registry" / "bundles"
    assert [path.name for path in bundles.iterdir()] == [jobs[0].name.removeprefix("jobs/")]
    assert make(trainer, import_job("shoes")).model_version == "models/shoes/versions/3"
    delete(trainer, "models/shoes")
    assert (registry.index().models, list(bundles.iterdir())) == ({}, [])
    with refused(NOT_FOUND, "MODEL_NOT_FOUND"):
        get(trainer, "models/shoes")
    assert make(trainer, import_job("shoes")).model_version == "models/shoes/versions/4"


def test_a_version_that_a_job_starts_from_is_not_deleted(trainer: Trainer) -> None:
    trainer.push("start", {"boots/1": b"one", "clogs/1": b"two"})
    first = make(trainer, import_job("base")).model_version
    job = trainer.create(train_job("datasets/start", model="slow", init=jobs_pb2.Init(model_version=first)))
    assert job.train.init.model_version == first
    for name in (first, "models/base"):
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "MODEL_IN_USE"):
            delete(trainer, name)
    trainer.cancel(job.name)
    trainer.wait(job.name)
    delete(trainer, "models/base")


@pytest.mark.parametrize("name", ["models/nobody", "models/nobody/versions/1"])
def test_a_model_that_is_not_there_is_said_so(trainer: Trainer, name: str) -> None:
    for call in (get, delete):
        with refused(NOT_FOUND, "MODEL_NOT_FOUND"):
            call(trainer, name)
    with refused(NOT_FOUND, "MODEL_NOT_FOUND"):
        trainer.models.ListModelVersions(pb.ListModelVersionsRequest(parent="models/nobody"))


def test_what_is_no_name_or_no_page_is_refused(trainer: Trainer) -> None:
    for call in (get, delete):
        with refused(INVALID, "INVALID_FIELD", "name"):
            call(trainer, "models/../x")
    with refused(INVALID, "INVALID_FIELD", "parent"):
        trainer.models.ListModelVersions(pb.ListModelVersionsRequest(parent="models/.."))
    with refused(INVALID, "INVALID_FIELD", "page_size"):
        trainer.models.ListModels(pb.ListModelsRequest(page_size=-1))
    make(trainer, import_job("paged"))
    with refused(INVALID, "INVALID_FIELD", "page_size"):
        trainer.models.ListModelVersions(pb.ListModelVersionsRequest(parent="models/paged", page_size=1_001))
    for token in ("!", "azE6eA=="):
        with refused(INVALID, "INVALID_FIELD"):
            trainer.models.ListModelVersions(pb.ListModelVersionsRequest(parent="models/paged", page_token=token))
