"""Aliases, downloads and what jobs leave, over the wire."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from collections.abc import Iterable, Iterator

import grpc
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save

from lookalike_protos.trainer.v1 import datasets_pb2, jobs_pb2, models_pb2
from lookalike_protos.types.v1 import files_pb2
from lookalike_protos.types.v1 import operations_pb2 as operations

from .trainer_process import REAL, Trainer, chunks_of, digest, import_job, reason_of, refused, train_job

NETWORK = "test_efficientnet"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    server = Trainer(tmp_path_factory.mktemp("real"), REAL).start()
    yield server
    assert server.end() == 0


def received(chunks: Iterable[files_pb2.FileChunk]) -> dict[str, bytes]:
    """Files by path, every digest and size compared."""
    files: dict[str, bytes] = {}
    told: dict[str, files_pb2.FileChunk] = {}
    path = ""
    for chunk in chunks:
        assert len(chunk.data) <= 1 << 20
        path = chunk.path or path
        if chunk.path:
            told[path] = chunk
        files[path] = files.get(path, b"") + chunk.data
    for path, content in files.items():
        assert (told[path].sha256, told[path].size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    return files


def made(trainer: Trainer, model: str) -> str:
    return str(trainer.wait(trainer.create(import_job(model)).name).model_version)


def named(trainer: Trainer, name: str) -> str:
    return str(trainer.models.GetModelVersion(models_pb2.GetModelVersionRequest(name=name)).name)


def set_alias(trainer: Trainer, alias: str, version: str, etag: str = "") -> models_pb2.ModelAlias:
    wanted = models_pb2.ModelAlias(name=alias, version=version, etag=etag)
    return trainer.models.SetModelAlias(models_pb2.SetModelAliasRequest(alias=wanted))


def test_an_alias_is_set_followed_moved_listed_and_deleted(trainer: Trainer) -> None:
    first, second = made(trainer, "aliased"), made(trainer, "aliased")
    alias = set_alias(trainer, "models/aliased/aliases/production", first)
    assert named(trainer, "models/aliased@production") == first
    moved = set_alias(trainer, alias.name, second, alias.etag)
    assert named(trainer, "models/aliased@production") == second
    with refused(grpc.StatusCode.ABORTED, "ETAG_MISMATCH"):
        set_alias(trainer, alias.name, first, alias.etag)
    assert list(trainer.models.ListModelAliases(models_pb2.ListModelAliasesRequest(parent="models/aliased")).aliases) == [moved]
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "MODEL_ALIASED"):
        trainer.models.DeleteModel(models_pb2.DeleteModelRequest(name=second))
    trainer.models.DeleteModelAlias(models_pb2.DeleteModelAliasRequest(name=alias.name, etag=moved.etag))
    with refused(grpc.StatusCode.NOT_FOUND, "ALIAS_NOT_FOUND"):
        named(trainer, "models/aliased@production")
    set_alias(trainer, alias.name, first)
    trainer.models.DeleteModel(models_pb2.DeleteModelRequest(name="models/aliased", force=True))


@pytest.mark.parametrize(
    ("alias", "version", "field"),
    [
        ("models/a/aliases/../x", "models/a/versions/1", "alias.name"),
        ("models/a/aliases/UP", "models/a/versions/1", "alias.name"),
        ("models/a/aliases/x", "models/b/versions/1", "alias.version"),
        ("models/a/aliases/x", "models/a/versions/0", "alias.version"),
        ("models/a/aliases/x", "models/a@y", "alias.version"),
    ],
)
def test_a_wrong_alias_is_named(trainer: Trainer, alias: str, version: str, field: str) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", field):
        set_alias(trainer, alias, version)


def test_a_bundle_is_downloaded_whole_and_one_that_was_edited_is_refused(trainer: Trainer) -> None:
    version = made(trainer, "fetched")
    request = models_pb2.DownloadModelVersionRequest(name="models/fetched")
    files = received(trainer.models.DownloadModelVersion(request))
    assert list(files)[-1] == "manifest.json"
    assert json.loads(files["manifest.json"])["config.json"]["sha256"] == digest(files["config.json"])
    job = trainer.models.GetModelVersion(models_pb2.GetModelVersionRequest(name=version)).job.removeprefix("jobs/")
    (trainer.folder / "registry" / "bundles" / job / "config.json").write_text("{ }")
    with refused(grpc.StatusCode.DATA_LOSS, "BUNDLE_DAMAGED"):
        list(trainer.models.DownloadModelVersion(request))


def job_file(trainer: Trainer, job: str, file: str) -> bytes:
    return received(trainer.jobs.DownloadJobFile(jobs_pb2.DownloadJobFileRequest(name=job, file=file)))[file]


def test_only_files_that_a_job_leaves_are_given(trainer: Trainer) -> None:
    job = trainer.wait(trainer.create(import_job("left")).name).name
    assert b"hello from the worker" in job_file(trainer, job, "worker.log")
    for file in ("job.json", "../jobs.db", "", "bundle/config.json"):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "file"):
            job_file(trainer, job, file)
    with refused(grpc.StatusCode.NOT_FOUND, "FILE_NOT_FOUND"):
        job_file(trainer, job, "report.html")
    with refused(grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND"):
        job_file(trainer, "jobs/none", "report.html")


def test_excluding_what_is_no_picture_of_the_revision_is_refused(trainer: Trainer) -> None:
    trainer.push("excluded", {f"{label}/1.png": label.encode() for label in ("a", "b", "c")})
    for paths, field in ((["a/2.png"], "job.train.excluded_paths"), (["../x"], "job.train.excluded_paths[0]")):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", field):
            trainer.create(train_job("datasets/excluded", excluded_paths=paths))
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "job.train.excluded_paths"):
        trainer.create(train_job("datasets/excluded", excluded_paths=["a/1.png"] * 10_001))
    job = trainer.create(train_job("datasets/excluded", excluded_paths=["a/1.png"]), "exclude-once")
    assert job.train.excluded_count == 1
    assert trainer.create(train_job("datasets/excluded", excluded_paths=["a/1.png"]), "exclude-once").name == job.name
    with refused(grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"):
        trainer.create(train_job("datasets/excluded", excluded_paths=["b/1.png"]), "exclude-once")


def test_a_manifest_tells_of_copies_and_small_classes(trainer: Trainer) -> None:
    trainer.push("copies", {"写真/1.png": b"same", "b/1.png": b"same", "b/2.png": b"x", "b/3.png": b"y"})
    found = trainer.datasets.InspectRevision(datasets_pb2.InspectRevisionRequest(name="datasets/copies"))
    assert (found.revision, found.copy_count, found.job) == ("datasets/copies/revisions/1", 1, "")
    assert list(found.copies[0].labels) == ["b", "写真"]
    assert [(each.label, each.picture_count) for each in found.small_classes] == [("写真", 1)]
    with refused(grpc.StatusCode.NOT_FOUND, "DATASET_NOT_FOUND"):
        trainer.datasets.InspectRevision(datasets_pb2.InspectRevisionRequest(name="datasets/none"))


def upload(trainer: Trainer, files: dict[str, bytes]) -> jobs_pb2.Job:
    trainer.datasets.UploadBlobs(chunk for content in files.values() for chunk in chunks_of(content))
    folder = [jobs_pb2.FolderFile(path=path, sha256=digest(content)) for path, content in files.items()]
    return import_job("brought", init=None, folder=folder)


def picture(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (24, 24), (shade, 255 - shade, shade // 2)).save(file, "PNG")
    return file.getvalue()


def test_a_folder_is_imported_a_bundle_only_unchanged_and_a_check_uses_it(real: Trainer) -> None:
    torch.manual_seed(0)
    config = {"architecture": NETWORK, "num_classes": 0, "pretrained_cfg": {"input_size": [3, 32, 32], "crop_pct": 1.0, "mean": [0.5] * 3}}
    bare = {"config.json": json.dumps(config).encode(), "model.safetensors": save(timm.create_model(NETWORK, num_classes=0).state_dict())}
    first = real.wait(real.create(upload(real, bare)).name)
    assert first.state == operations.STATE_SUCCEEDED, first.error.message
    files = received(real.models.DownloadModelVersion(models_pb2.DownloadModelVersionRequest(name=first.model_version)))
    again = real.wait(real.create(upload(real, files)).name)
    assert again.state == operations.STATE_SUCCEEDED, again.error.message
    one, two = (real.models.GetModelVersion(models_pb2.GetModelVersionRequest(name=each.model_version)) for each in (first, again))
    assert one.profiles["plain"].space.fingerprint == two.profiles["plain"].space.fingerprint
    assert json.loads(files["config.json"])["pretrained_cfg"]["input_size"] == [3, 32, 32]

    edited = real.wait(real.create(upload(real, {**files, "README.md": files["README.md"] + b"!"})).name)
    assert (edited.state, reason_of(edited.error)) == (operations.STATE_FAILED, "INVALID_BUNDLE")
    assert "README.md is not the file that was published" in edited.error.message

    real.push("shades", {f"{shade // 100}/{shade}.png": picture(shade) for shade in (0, 3, 6, 203, 206, 209)})
    check = jobs_pb2.Job(check=jobs_pb2.CheckSpec(dataset="datasets/shades", model_version=first.model_version))
    checked = real.wait(real.create(check).name)
    assert (checked.state, checked.model_version) == (operations.STATE_SUCCEEDED, ""), checked.error.message
    assert b"<!doctype html>" in job_file(real, checked.name, "report.html")
    assert json.loads(job_file(real, checked.name, "checks.json"))["vectors_of"] == first.model_version
    assert real.datasets.InspectRevision(datasets_pb2.InspectRevisionRequest(name="datasets/shades")).job == checked.name


class Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("code ran",))


def test_a_weights_file_with_code_in_it_is_refused_and_the_code_never_runs(real: Trainer) -> None:
    file = io.BytesIO()
    torch.save({"conv_stem.weight": torch.zeros(1), "extra": Code()}, file, pickle_module=pickle)
    real.datasets.UploadBlobs(chunks_of(file.getvalue()))
    weights = jobs_pb2.WeightsFile(network=NETWORK, sha256=digest(file.getvalue()))
    job = real.wait(real.create(import_job("coded", init=jobs_pb2.Init(weights=weights))).name)
    assert (job.state, reason_of(job.error)) == (operations.STATE_FAILED, "INVALID_WEIGHTS")
    assert "code" in job.error.message
    assert b"code ran" not in job_file(real, job.name, "worker.log")
