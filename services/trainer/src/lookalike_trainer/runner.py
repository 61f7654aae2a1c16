"""Runs jobs: a slot per device takes the oldest one, follows its worker, and publishes what it made."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import structlog

from lookalike_runtime.errors import ServiceError
from lookalike_trainer.datasets import Datasets
from lookalike_trainer.job_folders import JobFolders
from lookalike_trainer.job_records import Failure, Job, State
from lookalike_trainer.job_spec import CheckSpec, EnsembleSpec, ProfileSpec, TrainSpec
from lookalike_trainer.jobs import Jobs
from lookalike_trainer.models import Making, Models, ModelVersion, Origin
from lookalike_trainer.outcome import BUNDLE, Checked, Death, Result, read_outcome
from lookalike_trainer.training.position import read_position
from lookalike_trainer.worker_process import WORKER_COMMAND, WorkerProcess, end_orphans
from lookalike_trainer.worker_reports import EVENTS, ReportTail

log = structlog.get_logger()

MAX_DEATHS_AT_A_STEP = 3
MAX_DEATHS = 20
POLL_SECONDS = 0.2
_RETRY_SECONDS = 5.0


class Runner:
    """The slots of one server.

    A job whose worker or server dies goes on from its last checkpoint, but not if that happens `MAX_DEATHS_AT_A_STEP` times in a row at
    the same step, or `MAX_DEATHS` times in all.
    """

    def __init__(
        self, jobs: Jobs, datasets: Datasets, models: Models, folders: JobFolders, slots: int, command: Sequence[str] = WORKER_COMMAND
    ) -> None:
        """`command` and a job's folder make the worker's command line."""
        self._jobs = jobs
        self._datasets = datasets
        self._folders = folders
        self._models = models
        self._command = tuple(command)
        self._slots = slots
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Take up what an earlier server left, then take jobs as they come."""
        await asyncio.to_thread(self._take_up)
        self._tasks = [asyncio.create_task(self._slot()) for _ in range(self._slots)]

    async def stop(self) -> None:
        """End the workers; their jobs wait for the next start of the server, which does not count against them."""
        self._stopping = True
        self._jobs.changes.notify()
        await asyncio.gather(*self._tasks)

    def _take_up(self) -> None:
        for job in self._jobs.running():
            folder = self._folders.path(job.uid)
            end_orphans(self._command, folder)
            self._keep(job.uid, ReportTail(folder / EVENTS))
            if version := self._models.made_by(job.uid):
                self._succeed(job, version)
            elif job.cancel_requested:
                self._jobs.finish(job.uid, State.CANCELLED, message="cancelled")
                self._folders.tidy(job.uid)
            else:
                self._start_again(job, "SERVER_DIED", "the server died")

    def _start_again(self, job: Job, reason: str, what: str) -> None:
        """After a death: let the job go on, unless it died too often."""
        deaths = self._jobs.count_death(job.uid, read_position(self._folders.path(job.uid)))
        where = f"at step {deaths.step + 1}" if deaths.step else "before its first step"
        if deaths.there >= MAX_DEATHS_AT_A_STEP or deaths.total >= MAX_DEATHS:
            often = f"{deaths.there} times {where}" if deaths.there >= MAX_DEATHS_AT_A_STEP else f"{deaths.total} times"
            message = (
                f"{what}; that happened {often}, so the job is not tried again. Look whether the machine has enough memory, and try a "
                "smaller `pixels.size` or `sampler.batch`, or `loop.recompute=all`"
            )
            self._fail(job, Failure(code="INTERNAL", reason=reason, message=message))
        else:
            self._jobs.requeue(job.uid, f"{what} {where}: the job {self._how_it_goes_on(job)}", counted=True)

    def _how_it_goes_on(self, job: Job) -> str:
        return "goes on from its last checkpoint" if self._folders.has_checkpoint(job.uid) else "runs again from its beginning"

    async def _slot(self) -> None:
        with self._jobs.changes.subscription() as changed:
            while not self._stopping:
                changed.clear()
                try:
                    job = await asyncio.to_thread(self._jobs.claim)
                    if job is None:
                        await changed.wait()
                    else:
                        await self._run(job)
                except Exception:
                    log.exception("slot_failed")
                    await asyncio.sleep(_RETRY_SECONDS)

    async def _run(self, job: Job) -> None:
        log.info("job_starts", job=job.uid, start=job.starts)
        try:
            kept = await asyncio.to_thread(self._jobs.reports_kept, job.uid)
            folder = await asyncio.to_thread(self._folders.prepare, job, kept)
            worker = await WorkerProcess.start(self._command, folder)
            try:
                exit_code = await self._follow(job, worker, folder)
            except BaseException:
                await worker.end()  # nobody would follow it
                raise
            await asyncio.to_thread(self._conclude, job.uid, folder, exit_code)
        except ServiceError as error:
            await asyncio.to_thread(self._fail, job, Failure(code=error.code, reason=error.reason, message=error.message))
        except OSError as error:
            log.exception("job_failed", job=job.uid)
            failure = Failure(code="INTERNAL", reason="STORAGE_FAILED", message=f"the server's storage failed: {error}")
            await asyncio.to_thread(self._fail, job, failure)
        state = self._jobs.get(job.uid).state
        if state.is_final:
            await asyncio.to_thread(self._folders.tidy, job.uid)
        log.info("job_ended", job=job.uid, state=state)

    async def _follow(self, job: Job, worker: WorkerProcess, folder: Path) -> int | None:
        """Keep what the worker says until it ends; its exit code, or None if the server stops."""
        tail = ReportTail(folder / EVENTS)
        while (exit_code := await worker.wait(POLL_SECONDS)) is None:
            await asyncio.to_thread(self._keep, job.uid, tail)
            if self._stopping:
                await worker.end()
                return None
            if (await asyncio.to_thread(self._jobs.get, job.uid)).cancel_requested:
                exit_code = await worker.end()
                break
        await asyncio.to_thread(self._keep, job.uid, tail)
        return exit_code

    def _keep(self, uid: str, tail: ReportTail) -> None:
        while reports := tail.read():
            self._jobs.add_reports(uid, reports)

    def _conclude(self, uid: str, folder: Path, exit_code: int | None) -> None:
        job = self._jobs.get(uid)
        if job.cancel_requested:
            self._jobs.finish(uid, State.CANCELLED, message="cancelled")
        elif exit_code is None:
            self._jobs.requeue(uid, f"the server stops: the job {self._how_it_goes_on(job)} when it is back", counted=False)
        else:
            outcome = read_outcome(folder, exit_code, Checked if isinstance(job.spec, CheckSpec) else Result)
            if isinstance(outcome, Failure):
                self._fail(job, outcome)
            elif isinstance(outcome, Death):
                self._start_again(job, "WORKER_DIED", outcome.message)
            elif isinstance(outcome, Checked):
                self._jobs.finish(uid, State.SUCCEEDED, message="checked", notes=outcome.notes, metrics=outcome.metrics)
            else:
                self._publish(job, folder, outcome)

    def _publish(self, job: Job, folder: Path, result: Result) -> None:
        try:
            version = self._models.publish(self._making(job), folder / BUNDLE, result)
        except Exception as error:  # each kind of storage raises its own
            log.exception("publishing_failed", job=job.uid)
            message = f"the model could not be published in the registry: {error}"
            self._fail(job, Failure(code="INTERNAL", reason="PUBLISHING_FAILED", message=message))
        else:
            self._succeed(job, version)

    def _making(self, job: Job) -> Making:
        spec = job.spec
        assert not isinstance(spec, CheckSpec), "a check makes no model"
        if isinstance(spec, TrainSpec):
            return Making(job.uid, spec.model, Origin.TRAINED, self._datasets.get(spec.dataset, spec.revision).fingerprint)
        if isinstance(spec, ProfileSpec):
            of = self._models.get(spec.start.model, spec.start.version)
            return Making(job.uid, spec.model, of.origin, of.dataset_fingerprint)
        return Making(job.uid, spec.model, Origin.ENSEMBLE if isinstance(spec, EnsembleSpec) else Origin.IMPORTED, "")

    def _succeed(self, job: Job, version: ModelVersion) -> None:
        result = version.result
        message = f"made {version.name}"
        self._jobs.finish(job.uid, State.SUCCEEDED, message=message, version=version.number, notes=result.notes, metrics=result.metrics)

    def _fail(self, job: Job, failure: Failure) -> None:
        self._jobs.finish(job.uid, State.FAILED, message=failure.message, failure=failure)
