"""`lookalike jobs`: what the trainer is doing."""

from __future__ import annotations

from typing import Annotated

import typer

from lookalike import workflows
from lookalike._models import Job
from lookalike._names import resource_name
from lookalike.cli._app import jobs
from lookalike.cli._arguments import OutputFolder
from lookalike.cli._session import Session, command, table
from lookalike.cli.train import describe, wait_for_model

_Job = Annotated[str, typer.Argument(metavar="JOB", help="Job, such as jobs/J or J.", show_default=False)]


@command(jobs, "list", "lookalike jobs list")
async def list_(session: Session) -> None:
    """List jobs, newest first."""
    found = await session.client.trainer.list_jobs()
    shown = table("job", "what", "state", "progress", "queued", "made")
    for job in found:
        progress = f"{job.progress.stage} {job.progress.done}/{job.progress.total}" if job.progress and not job.state.ended else ""
        queued = f"{job.create_time:%Y-%m-%d %H:%M}"
        shown.add_row(job.name.removeprefix("jobs/"), _what(job), job.state.lower(), progress, queued, job.model_version)
    session.answer({"jobs": found}, shown if found else "no jobs yet")


@command(jobs, "watch", "lookalike jobs watch 3")
async def watch(session: Session, job: _Job) -> None:
    """Show a job's progress to its end. Ctrl-C leaves it running."""
    name = resource_name("jobs", job)
    if (await session.client.trainer.get_job(name)).check:
        done = await session.client.trainer.wait_for_job(name, session.observer.event)
        return session.answer(done, *done.notes)
    version = await wait_for_model(session, name)
    return session.answer(version, *describe(version))


@command(jobs, "report", "lookalike jobs report 3 -o report")
async def report(session: Session, job: _Job, output: OutputFolder) -> None:
    """Fetch what a job left to be looked at: its page, what is wrong with its data, and labels to doubt."""
    files = await workflows.save_report(session.client, resource_name("jobs", job), output)
    session.answer({"files": files}, *map(str, files))


@command(jobs, "cancel", "lookalike jobs cancel 3")
async def cancel(session: Session, job: _Job) -> None:
    """Ask a job to end. A job that has ended stays as it is."""
    found = await session.client.trainer.cancel_job(resource_name("jobs", job))
    ended = found.state.ended
    session.answer(found, f"{found.name} {'has ended' if ended else 'was asked to end'}: {found.state.lower()}")


def _what(job: Job) -> str:
    if job.train:
        return f"train {job.train.model} on {job.train.dataset.removeprefix('datasets/')}"
    if job.check:
        return f"check {job.check.dataset.removeprefix('datasets/')}"
    if job.ensemble:
        return f"ensemble {job.ensemble.model}"
    if job.profile:
        return f"profile {job.profile.profile} of {job.profile.model_version.removeprefix('models/')}"
    return f"import {job.import_.model}" if job.import_ else ""
