"""`lookalike dataset`: labelled pictures to train on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lookalike import workflows
from lookalike.cli._app import dataset
from lookalike.cli._session import Session, command


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
