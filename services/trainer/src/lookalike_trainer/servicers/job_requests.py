"""Specs of jobs as they come over the wire: every field checked, nothing decided."""

import re

from lookalike_protos.trainer.v1 import jobs_pb2 as pb
from lookalike_runtime.errors import invalid_field
from lookalike_runtime.resource_names import check_id, parse_name, parse_number, parse_optional_version
from lookalike_trainer.blobs import check_sha256
from lookalike_trainer.job_spec import ImportSpec, JobSpec, Start, TrainSpec
from lookalike_trainer.training.recipe_files import MAX_TEXT_BYTES

MAX_OVERRIDES = 64
MAX_OVERRIDE_BYTES = 1 << 10
MIN_SIZE, MAX_SIZE = 16, 1_024
_NETWORK = re.compile(r"[A-Za-z0-9_.-]{1,128}")


def requested_spec(job: pb.Job) -> JobSpec:
    """What a job is asked to do; raises InvalidArgument naming the field that is wrong."""
    match job.WhichOneof("spec"):
        case "train":
            return _train(job.train)
        case "import":
            return _import(getattr(job, "import"))
        case _:
            raise invalid_field("job.spec", "what to do is missing: train or import")


def _train(spec: pb.TrainSpec) -> TrainSpec:
    dataset, revision = parse_optional_version("job.train.dataset", spec.dataset, "datasets", "revisions")
    if len(spec.overrides) > MAX_OVERRIDES:
        raise invalid_field("job.train.overrides", f"{len(spec.overrides)} of them, at most {MAX_OVERRIDES}")
    for key, value in spec.overrides.items():
        if len(key.encode()) + len(value.encode()) > MAX_OVERRIDE_BYTES:
            raise invalid_field("job.train.overrides", f"{key[:40]!r} is longer than {MAX_OVERRIDE_BYTES} bytes with its value")
    if spec.recipe and spec.recipe_toml:
        raise invalid_field(
            "job.train.recipe", "it must be empty where recipe_toml is given: name what the file builds on by its `extends`"
        )
    if len(spec.recipe_toml.encode()) > MAX_TEXT_BYTES:
        raise invalid_field("job.train.recipe_toml", f"it has {len(spec.recipe_toml.encode())} bytes, at most {MAX_TEXT_BYTES} are taken")
    return TrainSpec(
        model=check_id("job.train.model", spec.model),
        dataset=dataset,
        revision=revision,
        recipe=_short("job.train.recipe", spec.recipe),
        overrides=dict(spec.overrides),
        start=_start("job.train.init", spec.init) if spec.HasField("init") else None,
        seed=spec.seed,
        recipe_toml=spec.recipe_toml,
    )


def _import(spec: pb.ImportSpec) -> ImportSpec:
    model = check_id("job.import.model", spec.model)
    start = _start("job.import.init", spec.init)
    if start.kind not in {"builtin", "timm", "weights"}:
        raise invalid_field("job.import.init", "a model can be made of builtin, timm or weights; to start training from others, use train")
    if spec.size and not MIN_SIZE <= spec.size <= MAX_SIZE:
        raise invalid_field("job.import.size", f"{spec.size} is out of range: {MIN_SIZE} to {MAX_SIZE} pixels, or 0 for the network's own")
    return ImportSpec(model=model, start=start, size=spec.size)


def _start(field: str, init: pb.Init) -> Start:
    match init.WhichOneof("kind"):
        case "builtin":
            return Start(kind="builtin", name=_short(f"{field}.builtin", init.builtin))
        case "random":
            return Start(kind="random", name=_network(f"{field}.random", init.random))
        case "timm":
            return Start(kind="timm", name=_network(f"{field}.timm", init.timm))
        case "weights":
            network = _network(f"{field}.weights.network", init.weights.network)
            return Start(kind="weights", name=network, sha256=check_sha256(f"{field}.weights.sha256", init.weights.sha256))
        case "model_version":
            model, number = parse_name(f"{field}.model_version", init.model_version, "models", "versions")
            return Start(kind="bundle", model=model, version=parse_number(f"{field}.model_version", number))
        case _:
            raise invalid_field(field, "what to start from is missing: builtin, random, timm, weights or model_version")


def _network(field: str, name: str) -> str:
    if not _NETWORK.fullmatch(name):
        raise invalid_field(field, f"{name[:80]!r} is no name of a timm network, such as `resnet50`")
    return name


def _short(field: str, name: str) -> str:
    if len(name.encode()) > 128:
        raise invalid_field(field, f"{name[:40]!r} is longer than 128 bytes")
    return name
