"""Jobs and events as they go over the wire."""

from google.rpc.status_pb2 import Status

from lookalike_protos.trainer.v1 import jobs_pb2 as pb
from lookalike_protos.types.v1 import operations_pb2
from lookalike_runtime.errors import DataLoss, FailedPrecondition, NotFound, ResourceExhausted, ServiceError
from lookalike_runtime.status import status_of
from lookalike_trainer.job_records import Event, Failure, Job, Progress, State
from lookalike_trainer.job_spec import CheckSpec, EnsembleSpec, ImportSpec, JobSpec, ProfileSpec, Start, TrainSpec
from lookalike_trainer.servicers.timestamps import timestamp


class _Internal(ServiceError):
    code = "INTERNAL"


_KINDS = {kind.code: kind for kind in (DataLoss, FailedPrecondition, NotFound, ResourceExhausted, _Internal)}


def job_message(job: Job) -> pb.Job:
    """A job as its message."""
    message = _spec(job.spec)
    message.name = f"jobs/{job.uid}"
    message.state = _state(job.state)
    message.create_time.CopyFrom(timestamp(job.create_time))
    if job.progress:
        message.progress.CopyFrom(_progress(job.progress))
    if job.start_time is not None:
        message.start_time.CopyFrom(timestamp(job.start_time))
    if job.end_time is not None:
        message.end_time.CopyFrom(timestamp(job.end_time))
    if job.failure:
        message.error.CopyFrom(_error(job.failure))
    if job.version is not None and not isinstance(job.spec, CheckSpec):
        message.model_version = f"models/{job.spec.model}/versions/{job.version}"
    message.notes.extend(job.notes)
    return message


def event_message(event: Event) -> operations_pb2.Event:
    """An event as its message."""
    report = event.report
    return operations_pb2.Event(
        sequence=event.sequence,
        time=timestamp(report.time),
        state=_state(event.state),
        progress=_progress(report.progress) if report.progress else None,
        message=report.message,
        metrics=report.metrics,
        error=_error(event.failure) if event.failure else None,
    )


def _spec(spec: JobSpec) -> pb.Job:
    match spec:
        case ImportSpec():
            made = pb.Job()
            getattr(made, "import").CopyFrom(_import(spec))
            return made
        case CheckSpec():
            return pb.Job(check=_check(spec))
        case EnsembleSpec():
            return pb.Job(ensemble=_ensemble(spec))
        case ProfileSpec():
            return pb.Job(profile=_profile(spec))
        case TrainSpec():
            return pb.Job(train=_train(spec))


def _import(spec: ImportSpec) -> pb.ImportSpec:
    folder = [pb.FolderFile(path=file.path, sha256=file.sha256) for file in spec.folder]
    return pb.ImportSpec(model=spec.model, init=_init(spec.start) if spec.start else None, size=spec.size, folder=folder)


def _check(spec: CheckSpec) -> pb.CheckSpec:
    version = _init(spec.start).model_version if spec.start else ""
    return pb.CheckSpec(dataset=_revision(spec), model_version=version)


def _revision(spec: TrainSpec | CheckSpec | ProfileSpec) -> str:
    return f"datasets/{spec.dataset}/revisions/{spec.revision}"


def _ensemble(spec: EnsembleSpec) -> pb.EnsembleSpec:
    members = [
        pb.EnsembleMember(model_version=f"models/{m.model}/versions/{m.version}", profile=m.profile or "", weight=m.weight)
        for m in spec.members
    ]
    return pb.EnsembleSpec(model=spec.model, members=members)


def _profile(spec: ProfileSpec) -> pb.ProfileSpec:
    return pb.ProfileSpec(
        model_version=_init(spec.start).model_version,
        profile=spec.profile,
        views=spec.views,
        tap=spec.tap,
        project_dim=spec.project_dim,
        dataset=_revision(spec) if spec.dataset else "",
        default_profile=spec.default_profile,
    )


def _train(spec: TrainSpec) -> pb.TrainSpec:
    return pb.TrainSpec(
        dataset=_revision(spec),
        model=spec.model,
        recipe=spec.recipe,
        overrides=spec.overrides,
        init=_init(spec.start) if spec.start else None,
        seed=spec.seed,
        recipe_toml=spec.recipe_toml,
        excluded_count=spec.excluded.count if spec.excluded else 0,
    )


def _init(start: Start) -> pb.Init:
    match start.kind:
        case "builtin":
            return pb.Init(builtin=start.name)
        case "random":
            return pb.Init(random=start.name)
        case "timm":
            return pb.Init(timm=start.name)
        case "weights":
            return pb.Init(weights=pb.WeightsFile(network=start.name, sha256=start.sha256))
        case "bundle":
            return pb.Init(model_version=f"models/{start.model}/versions/{start.version}")


def _state(state: State) -> operations_pb2.State.ValueType:
    return operations_pb2.State.Value(f"STATE_{state}")


def _progress(progress: Progress) -> operations_pb2.Progress:
    return operations_pb2.Progress(stage=progress.stage, done=progress.done, total=progress.total, unit=progress.unit)


def _error(failure: Failure) -> Status:
    return status_of(_KINDS.get(failure.code, _Internal)(failure.reason, failure.message))
