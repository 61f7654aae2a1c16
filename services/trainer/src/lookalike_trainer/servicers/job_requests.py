"""Specs of jobs as they come over the wire: every field checked, nothing decided."""

import re
from collections.abc import Sequence

from lookalike_model.profile import MAX_DIM, MAX_VIEWS, check_view
from lookalike_protos.trainer.v1 import jobs_pb2 as pb
from lookalike_runtime.errors import invalid_field
from lookalike_runtime.resource_names import check_id, parse_name, parse_number, parse_optional_version
from lookalike_trainer.blobs import check_sha256
from lookalike_trainer.exclusion import excluded_by
from lookalike_trainer.job_spec import (
    CheckSpec,
    EnsembleMember,
    EnsembleSpec,
    FolderFile,
    ImportSpec,
    JobSpec,
    ProfileSpec,
    Start,
    TrainSpec,
)
from lookalike_trainer.manifest import check_path
from lookalike_trainer.training.recipe_files import MAX_TEXT_BYTES

MAX_OVERRIDES = 64
MAX_OVERRIDE_BYTES = 1 << 10
MAX_EXCLUDED = 10_000
MAX_FOLDER_FILES = 64
MIN_SIZE, MAX_SIZE = 16, 1_024
MIN_MEMBERS, MAX_MEMBERS, MAX_WEIGHT = 2, 6, 1e6
_NETWORK = re.compile(r"[A-Za-z0-9_.-]{1,128}")


def requested_spec(job: pb.Job) -> JobSpec:
    """What a job is asked to do; raises InvalidArgument naming the field that is wrong."""
    match job.WhichOneof("spec"):
        case "train":
            return _train(job.train)
        case "import":
            return _import(getattr(job, "import"))
        case "check":
            return _check(job.check)
        case "ensemble":
            return _ensemble(job.ensemble)
        case "profile":
            return _profile(job.profile)
        case _:
            raise invalid_field("job.spec", "what to do is missing: train, import, check, ensemble or profile")


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
    if len(spec.excluded_paths) > MAX_EXCLUDED:
        raise invalid_field("job.train.excluded_paths", f"{len(spec.excluded_paths)} of them, at most {MAX_EXCLUDED}")
    for index, path in enumerate(spec.excluded_paths):
        check_path(f"job.train.excluded_paths[{index}]", path)
    return TrainSpec(
        model=check_id("job.train.model", spec.model),
        dataset=dataset,
        revision=revision,
        recipe=_short("job.train.recipe", spec.recipe),
        overrides=dict(spec.overrides),
        start=_start("job.train.init", spec.init) if spec.HasField("init") else None,
        seed=spec.seed,
        recipe_toml=spec.recipe_toml,
        excluded=excluded_by(spec.excluded_paths),
    )


def _import(spec: pb.ImportSpec) -> ImportSpec:
    model = check_id("job.import.model", spec.model)
    if spec.folder:
        return ImportSpec(model=model, start=None, size=0, folder=_folder(spec))
    start = _start("job.import.init", spec.init)
    if start.kind not in {"builtin", "timm", "weights"}:
        raise invalid_field("job.import.init", "a model can be made of builtin, timm or weights; to start training from others, use train")
    if spec.size and not MIN_SIZE <= spec.size <= MAX_SIZE:
        raise invalid_field("job.import.size", f"{spec.size} is out of range: {MIN_SIZE} to {MAX_SIZE} pixels, or 0 for the network's own")
    return ImportSpec(model=model, start=start, size=spec.size)


def _folder(spec: pb.ImportSpec) -> tuple[FolderFile, ...]:
    if spec.HasField("init") or spec.size:
        raise invalid_field("job.import.folder", "a folder says itself what its network and its size are: leave init and size out")
    if len(spec.folder) > MAX_FOLDER_FILES:
        raise invalid_field("job.import.folder", f"{len(spec.folder)} files, at most {MAX_FOLDER_FILES}")
    files: dict[str, str] = {}
    for index, file in enumerate(spec.folder):
        check_path(f"job.import.folder[{index}].path", file.path)
        if file.path in files:
            raise invalid_field(f"job.import.folder[{index}].path", f"{file.path!r} stands there twice")
        files[file.path] = check_sha256(f"job.import.folder[{index}].sha256", file.sha256)
    return tuple(FolderFile(path=path, sha256=sha256) for path, sha256 in sorted(files.items()))


def _check(spec: pb.CheckSpec) -> CheckSpec:
    dataset, revision = parse_optional_version("job.check.dataset", spec.dataset, "datasets", "revisions")
    start = _bundle("job.check.model_version", spec.model_version) if spec.model_version else None
    return CheckSpec(dataset=dataset, revision=revision, start=start)


def _ensemble(spec: pb.EnsembleSpec) -> EnsembleSpec:
    if not MIN_MEMBERS <= len(spec.members) <= MAX_MEMBERS:
        raise invalid_field("job.ensemble.members", f"{len(spec.members)} of them: {MIN_MEMBERS} to {MAX_MEMBERS} make an ensemble")
    members = tuple(_member(f"job.ensemble.members[{index}]", member) for index, member in enumerate(spec.members))
    return EnsembleSpec(model=check_id("job.ensemble.model", spec.model), members=members)


def _member(field: str, member: pb.EnsembleMember) -> EnsembleMember:
    if not 0 <= member.weight <= MAX_WEIGHT:  # which is not true of NaN either
        raise invalid_field(f"{field}.weight", f"{member.weight:g} is out of range: above 0, to {MAX_WEIGHT:g}; 0 means 1")
    model, number = parse_name(f"{field}.model_version", member.model_version, "models", "versions")
    return EnsembleMember(
        model=model,
        version=parse_number(f"{field}.model_version", number),
        profile=check_id(f"{field}.profile", member.profile) if member.profile else None,
        weight=member.weight or 1.0,
    )


def _profile(spec: pb.ProfileSpec) -> ProfileSpec:
    start = _bundle("job.profile.model_version", spec.model_version)
    name = check_id("job.profile.profile", spec.profile)
    if spec.tap not in ("", "pool", "embedding"):
        raise invalid_field("job.profile.tap", f"{spec.tap[:40]!r} is no output of a network: pool, or embedding")
    if spec.project_dim > MAX_DIM:
        raise invalid_field("job.profile.project_dim", f"{spec.project_dim} is out of range: 1 to {MAX_DIM:,}, or 0 for no projection")
    if bool(spec.project_dim) != bool(spec.dataset):
        what = "a projection is fitted on pictures: name the dataset" if spec.project_dim else "only a projection is fitted on pictures"
        raise invalid_field("job.profile.dataset", what)
    dataset = parse_optional_version("job.profile.dataset", spec.dataset, "datasets", "revisions") if spec.dataset else (None, None)
    return ProfileSpec(
        model=start.model,
        start=start,
        profile=name,
        tap="embedding" if spec.tap == "embedding" else "pool",
        views=_views(spec.views),
        project_dim=spec.project_dim,
        dataset=dataset[0],
        revision=dataset[1],
        default_profile=spec.default_profile,
    )


def _views(views: Sequence[str]) -> tuple[str, ...]:
    if len(views) > MAX_VIEWS:
        raise invalid_field("job.profile.views", f"{len(views)} of them, at most {MAX_VIEWS}")
    for index, view in enumerate(views):
        try:
            check_view(view)
        except ValueError as error:
            raise invalid_field(f"job.profile.views[{index}]", str(error)) from None
        if view in views[:index]:
            raise invalid_field(f"job.profile.views[{index}]", f"{view!r} stands there twice")
    return tuple(views) or ("identity",)


def _bundle(field: str, name: str) -> Start:
    model, number = parse_name(field, name, "models", "versions")
    return Start(kind="bundle", model=model, version=parse_number(field, number))


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
            return _bundle(f"{field}.model_version", init.model_version)
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
