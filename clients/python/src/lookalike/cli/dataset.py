"""`lookalike dataset`: labelled pictures to train on."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from lookalike import workflows
from lookalike._models import RevisionFindings
from lookalike._names import numbered_name, resource_name
from lookalike.cli._app import dataset
from lookalike.cli._arguments import OutputFolder, Yes
from lookalike.cli._session import Session, command, table

_SHOWN = 10
_Name = Annotated[str, typer.Argument(metavar="NAME", help="Dataset, or datasets/D/revisions/R.", show_default=False)]


@command(dataset, "push", "lookalike dataset push ./shoes --name shoes", "lookalike dataset push ./shoes/labels.csv --name shoes")
async def push(
    session: Session,
    source: Annotated[Path, typer.Argument(metavar="DIR", help="A folder per class, or a CSV file of path,label.", show_default=False)],
    name: Annotated[str, typer.Option("--name", help="Name of the dataset.", show_default=False)],
) -> None:
    """Send labelled pictures to the trainer, as a new revision of a dataset.

    Each first-level folder of DIR is a class. Only what the trainer lacks is sent, so a push that broke off goes on when it is repeated.
    Files that are no pictures, or have more than 15 MiB, are listed and left out.
    """
    pushed = await workflows.push(session.client, source, name, session.observer)
    session.note_left_out(pushed.left_out)
    if pushed.single_picture_classes:
        singles = pushed.single_picture_classes
        session.note(
            f"{len(singles):,} classes have one picture, such as {singles[0]!r}: they are used where they can be, never as an anchor"
        )
    revision = pushed.revision
    session.answer(
        pushed,
        f"{revision.name}: {revision.picture_count:,} pictures of {revision.class_count:,} classes; {pushed.uploaded_count:,} were sent,"
        f" {pushed.hidden_count:,} hidden files skipped",
        f"train on it: lookalike train {revision.name.split('/')[1]} --model MODEL",
    )


@command(dataset, "list", "lookalike dataset list")
async def list_(session: Session) -> None:
    """List datasets with their newest revisions."""
    found = await session.client.trainer.list_datasets()
    shown = table("dataset", "newest", "#pictures", "#classes", "#MiB", "made")
    for each in found:
        latest = each.latest
        size, made = f"{latest.size_bytes / 2**20:,.1f}", f"{latest.create_time:%Y-%m-%d %H:%M}"
        name = each.name.removeprefix("datasets/")
        shown.add_row(name, latest.name, f"{latest.picture_count:,}", f"{latest.class_count:,}", size, made)
    session.answer({"datasets": found}, shown if found else "no datasets yet: lookalike dataset push")


@command(dataset, "show", "lookalike dataset show shoes", "lookalike dataset show shoes -o checked")
async def show(
    session: Session,
    name: _Name,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Folder for the page with pictures and the list of doubtful labels."),
    ] = None,
) -> None:
    """Show a revision, and what is wrong with its data as far as it is known.

    What the manifest shows is always there. What only the pictures show comes from the newest training or check of the revision.
    """
    revision = await session.client.trainer.get_revision(numbered_name("datasets", "revisions", name))
    findings = await session.client.trainer.inspect_revision(revision.name)
    checks = await _checks(session, findings.job) if findings.job else None
    files = await workflows.save_report(session.client, findings.job, output) if output and findings.job else ()
    lines = [
        f"{revision.name}: {revision.picture_count:,} pictures of {revision.class_count:,} classes",
        f"fingerprint {revision.fingerprint}",
    ]
    lines += _manifest_lines(findings)
    lines += _picture_lines(checks) if checks else [f"its pictures were not looked at yet: lookalike dataset check {name}"]
    lines += [f"wrote {file}" for file in files]
    session.answer({"revision": revision, "findings": findings, "checks": checks, "files": files}, *lines)


@command(dataset, "check", "lookalike dataset check shoes -o checked", "lookalike dataset check shoes --model shoes@production -o checked")
async def check(
    session: Session,
    name: _Name,
    output: OutputFolder,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="MODEL", help="Model that tells what looks alike. Default: the built-in weights.", show_default=False
        ),
    ] = None,
) -> None:
    """Look for what is wrong with a dataset: unreadable pictures, copies, classes that look like one, wrong labels.

    Writes report.html (with pictures), checks.json and suspects.csv; give the last, without the lines of labels that are right, to
    `lookalike train --exclude`. A model that was trained on this very dataset knows its wrong labels by heart: take another.
    """
    job = await workflows.start_check(session.client, name, model)
    number = job.name.removeprefix("jobs/")
    session.if_interrupted = f"{job.name} goes on; fetch its report: lookalike jobs report {number} -o {output}"
    done = await session.client.trainer.wait_for_job(job.name, session.observer.event)
    files = await workflows.save_report(session.client, job.name, output)
    session.answer({"job": done, "files": files}, *done.notes, *(f"wrote {file}" for file in files))


@command(dataset, "delete", "lookalike dataset delete shoes")
async def delete(session: Session, name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)], yes: Yes = False) -> None:
    """Delete a dataset with all its revisions. Refused while a job uses it."""
    full = resource_name("datasets", name)
    session.confirm(f"Delete {full} with all its revisions for good?", yes)
    await session.client.trainer.delete_dataset(full)
    session.answer({"deleted": full}, f"{full} was deleted")


async def _checks(session: Session, job: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = await session.client.trainer.download_job_file(job, "checks.json", Path(folder))
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found


def _manifest_lines(findings: RevisionFindings) -> list[str]:
    most = max(bar.class_count for bar in findings.class_sizes)
    lines = ["pictures a class:"]
    for bar in findings.class_sizes:
        between = f"{bar.from_pictures}" if bar.from_pictures == bar.to_pictures else f"{bar.from_pictures}–{bar.to_pictures}"
        lines.append(f"  {between:>15}  {bar.class_count:>7,}  {'█' * round(30 * bar.class_count / most)}")
    if findings.small_class_count:
        some = ", ".join(f"{each.label} ({each.picture_count})" for each in findings.small_classes[:_SHOWN])
        lines.append(f"classes with fewer than three pictures: {findings.small_class_count:,}, such as {some}")
    if findings.copy_count:
        lines.append(f"pictures that are copies of others: {findings.copy_count:,}")
        lines += [f"  {' = '.join(each.paths[:4])}" for each in findings.copies[:_SHOWN]]
    return lines


def _picture_lines(checks: dict[str, Any]) -> list[str]:
    lines = [f"what looks alike is told by the vectors of {checks['vectors_of']}"]
    for key, what, line in (
        ("unreadable", "pictures that cannot be read", "{path}: {reason}"),
        ("same_pixels", "groups of other files with the same picture", "{paths}"),
        ("both_sides", "pictures on both sides of the split", "{paths}"),
        ("alike", "pairs of classes that look like one", "{first} = {second} ({between:.2f})"),
        ("suspects", "doubtful labels", "{path}: labelled {label}, looks like {suspected_label} ({score:.2f})"),
    ):
        if found := checks[key]:
            lines.append(f"{what}: {len(found):,}")
            lines += [f"  {line.format(**{**each, 'paths': ' = '.join(each.get('paths', ()))})}" for each in found[:_SHOWN]]
    return lines
