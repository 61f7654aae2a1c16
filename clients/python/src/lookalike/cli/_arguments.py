"""Options that several commands have alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lookalike.workflows._dba import MAX_DBA_K
from lookalike.workflows._rank import MAX_K

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of pictures.", show_default=False)]
Queries = Annotated[Path, typer.Option("--queries", metavar="DIR", help="Folder of query pictures.", show_default=False)]
References = Annotated[Path, typer.Option("--references", metavar="DIR", help="Folder of reference pictures.", show_default=False)]
ModelName = Annotated[
    str,
    typer.Option("--model", metavar="MODEL", help="Model (its newest version), or models/M/versions/V.", show_default=False),
]
Dba = Annotated[
    int | None,
    typer.Option(
        "--dba",
        min=0,
        max=MAX_DBA_K,
        metavar="K",
        help="Augment references with their K nearest others; 0 is off. Default: what the model's profile advises.",
        show_default=False,
    ),
]
QueryDba = Annotated[
    int | None,
    typer.Option(
        "--query-dba",
        min=0,
        max=MAX_DBA_K,
        metavar="K",
        help="Augment queries with their K nearest other queries; needs all queries at once. Default: off.",
        show_default=False,
    ),
]
RankK = Annotated[int, typer.Option("-k", min=1, max=MAX_K, help="References a query.")]
OutputFolder = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Folder that files are written into.", show_default=False)
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
