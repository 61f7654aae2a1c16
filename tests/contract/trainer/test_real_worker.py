"""Jobs done by the real worker, over the wire: weights file in, bundle out."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save

from lookalike_model.bundle import read_bundle
from lookalike_model.registry import RegistryReader
from lookalike_protos.trainer.v1 import jobs_pb2, models_pb2
from lookalike_protos.types.v1 import operations_pb2 as operations

from .trainer_process import REAL, Trainer, chunks_of, digest, import_job, reason_of, train_job

NETWORK = "test_efficientnet"
SHORT = {"pixels.size": "32", "loop.epochs": "1", "loop.device": "cpu"}


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    server = Trainer(tmp_path_factory.mktemp("real"), REAL).start()
    yield server
    assert server.end() == 0


def upload(trainer: Trainer, content: bytes) -> jobs_pb2.Init:
    trainer.datasets.UploadBlobs(chunks_of(content))
    return jobs_pb2.Init(weights=jobs_pb2.WeightsFile(network=NETWORK, sha256=digest(content)))


def picture(shade: int, number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (24, 24), (shade * 80, 255 - shade * 80, number * 30)).save(file, "PNG")
    return file.getvalue()


def test_an_uploaded_weights_file_becomes_a_model_and_a_training_starts_from_it(trainer: Trainer) -> None:
    torch.manual_seed(0)
    weights = timm.create_model(NETWORK, num_classes=0).state_dict()
    imported = trainer.wait(trainer.create(import_job("tiny", init=upload(trainer, save(weights)), size=32)).name)
    assert imported.state == operations.STATE_SUCCEEDED, imported.error.message

    trainer.push("shades", {f"shade{shade}/{number}.png": picture(shade, number) for shade in range(3) for number in range(4)})
    start = jobs_pb2.Init(model_version=imported.model_version)
    created = trainer.create(train_job("datasets/shades", model="tiny", init=start, overrides=SHORT))
    stages = [event.progress.stage for event in trainer.watch(created.name) if event.HasField("progress")]
    trained = trainer.get(created.name)
    assert trained.state == operations.STATE_SUCCEEDED, trained.error.message
    assert trained.model_version == "models/tiny/versions/2"
    assert [stage for stage in dict.fromkeys(stages) if stage != "evaluate"] == ["prepare", "train", "bundle", "report"]
    assert trained.notes, "nothing was held out, and that is said"

    index = RegistryReader(str(trainer.folder / "registry")).index()
    for number in ("1", "2"):
        told = trainer.models.GetModelVersion(models_pb2.GetModelVersionRequest(name=f"models/tiny/versions/{number}"))
        bundle = read_bundle(trainer.folder / "registry" / index.models["tiny"].versions[number].path)
        profile = bundle.profiles[bundle.default_profile]
        assert told.profiles[told.default_profile].space.fingerprint == profile.fingerprint
        assert told.profiles[told.default_profile].space.dim == profile.dim
        assert bundle.preprocessing.size == 32


def test_a_weights_file_that_does_not_fit_fails_the_job_with_the_names(trainer: Trainer) -> None:
    weights = timm.create_model(NETWORK, num_classes=0).state_dict()
    weights["conv_stem.weight"] = torch.zeros(1, 1)
    job = trainer.wait(trainer.create(import_job("bad", init=upload(trainer, save(weights)))).name)
    assert job.state == operations.STATE_FAILED
    assert reason_of(job.error) == "INVALID_WEIGHTS"
    assert "conv_stem.weight" in job.error.message
