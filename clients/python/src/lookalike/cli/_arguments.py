"""Options that several commands have alike."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from lookalike._models import DbaSpec, DbaWeights, DType, Engine
from lookalike.workflows._dba import MAX_DBA_K, MAX_DBA_ROUNDS
from lookalike.workflows._rank import MAX_K

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of pictures.", show_default=False)]
OfCollection = Annotated[str, typer.Argument(metavar="COLLECTION", help="Collection, or an alias of it.", show_default=False)]
Queries = Annotated[Path, typer.Option("--queries", metavar="DIR", help="Folder of query pictures.", show_default=False)]
References = Annotated[Path, typer.Option("--references", metavar="DIR", help="Folder of reference pictures.", show_default=False)]
ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="Model (its newest version), M@ALIAS or models/M/versions/V, with :PROFILE if you like.",
        show_default=False,
    ),
]


def _neighbours(option: str, help_text: str) -> Any:
    return typer.Option(option, min=0, max=MAX_DBA_K, metavar="K", help=help_text, show_default=False)


Dba = Annotated[
    int | None,
    _neighbours("--dba", "Augment references with their K nearest others; 0 is off. Default: what the model's profile advises."),
]
DbaOfBuild = Annotated[
    int | None, _neighbours("--dba", "Augment items with their K nearest others; 0 is off. Default: as the collection says.")
]
QueryDba = Annotated[
    int | None,
    _neighbours("--query-dba", "Augment queries with their K nearest other queries; needs all queries at once. Default: off."),
]
Weighting = StrEnum("Weighting", ["equal", "linear", "rank", "power"])
DbaWeighting = Annotated[
    Weighting | None,
    typer.Option(
        "--dba-weights",
        help="How much neighbours count; power: their cosine to a power. Default: as the profile advises with --dba K alone, else linear.",
        show_default=False,
    ),
]
DbaPower = Annotated[
    float | None,
    typer.Option("--dba-power", metavar="P", help="Exponent of the cosine with --dba-weights power. Default: 3.", show_default=False),
]
DbaRounds = Annotated[
    int | None,
    typer.Option(
        "--dba-rounds",
        min=1,
        max=MAX_DBA_ROUNDS,
        metavar="N",
        help="Augment so often, with neighbours found anew. Default: 1.",
        show_default=False,
    ),
]
EngineName = StrEnum("EngineName", ["annoy", "hnsw", "exact"])
DTypeName = StrEnum("DTypeName", ["float32", "float16"])
ModelOfNew = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="Model of a new collection, with :PROFILE if you like. Default: the newest trained, else the built-in one, zero-shot.",
        show_default=False,
    ),
]
RecallOfNew = Annotated[
    float | None,
    typer.Option(
        "--recall",
        min=0,
        max=1,
        help="Least recall at 10 that builds of a new collection must reach, above 0. Default: 0.95.",
        show_default=False,
    ),
]
DTypeOfNew = Annotated[
    DTypeName | None,
    typer.Option(
        "--dtype",
        help="How a new collection stores vectors; float16 takes half the room, and rounds. Default: float32.",
        show_default=False,
    ),
]
RankK = Annotated[int, typer.Option("-k", min=1, max=MAX_K, help="References a query.")]
OutputFolder = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Folder that files are written into.", show_default=False)
]
Labels = Annotated[list[str] | None, typer.Option("--label", help="Only items with this label; may be repeated.", show_default=False)]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help="Only items that meet it: 'label=shoe|boot', 'label!=shoe', 'label^=run' (begins so), 'payload.price<100', 'payload.sold?' (is"
        " there), '!payload.sold?' (is not). May be repeated: all must hold.",
        show_default=False,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def asked_engine(name: EngineName | None) -> Engine | None:
    """Return the engine that an option names."""
    return Engine(name.upper()) if name else None


def asked_dtype(name: DTypeName | None) -> DType | None:
    """Return the precision that an option names."""
    return DType(name.upper()) if name else None


def asked_dba(ks: Sequence[int | None], weights: Weighting | None, power: float | None, rounds: int | None) -> list[int | DbaSpec | None]:
    """Return what the options ask for on each side, whose neighbours are `ks`; k alone is weighted as the profile advises.

    Raises BadParameter where weights, power or rounds have no k to go with.
    """
    options = {"--dba-weights": weights, "--dba-power": power, "--dba-rounds": rounds}
    given = [name for name, value in options.items() if value is not None]
    if not given:
        return list(ks)
    if all(k is None for k in ks):
        raise typer.BadParameter("it says how to augment, but nothing says with how many neighbours: give --dba K", param_hint=given[0])
    if power is not None and not power > 0:
        raise typer.BadParameter(f"{power:g} is not above 0", param_hint="--dba-power")
    kind = DbaWeights(weights.upper()) if weights else DbaWeights.LINEAR
    return [None if k is None else DbaSpec(k, kind, power or 0.0, rounds or 0) for k in ks]
