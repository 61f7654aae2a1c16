"""A ranked submission: for each query the reference names, best first."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TextIO

from lookalike._client import AsyncClient
from lookalike._exceptions import InputError, WorkIncomplete
from lookalike._files import written_whole
from lookalike._folders import LeftOut, Listing, scan
from lookalike._models import DbaSpec, Ranking
from lookalike.workflows._dba import DbaChoice, choose_dba, choose_query_dba
from lookalike.workflows._model import choose_model
from lookalike.workflows._observer import SILENT, Observer
from lookalike.workflows._rank import check_k, rank
from lookalike.workflows._scratch import scratch_collection


@dataclass(frozen=True)
class Submitted:
    """What a submission came to.

    rows: lines of the file, one for each query picture. missing: queries whose line has no references, since the picture could not be read.
    left_out_queries, left_out_references: files that are not in the ranking, with reasons.
    """

    path: Path
    rows: int
    missing: int
    references: int
    k: int
    model: str
    space: str
    dba: DbaChoice
    query_dba: DbaChoice
    left_out_queries: tuple[LeftOut, ...]
    left_out_references: tuple[LeftOut, ...]


async def submit(
    client: AsyncClient,
    queries: Path,
    references: Path,
    model: str,
    output: Path,
    *,
    k: int = 1000,
    dba: int | DbaSpec | None = None,
    query_dba: int | DbaSpec | None = None,
    observer: Observer = SILENT,
) -> Submitted:
    """Rank all pictures of the flat folder `references` for each of the flat folder `queries`, exactly, and write `output`.

    A line is `name,ref1 ref2 …`: names without extension, the best `k` first. `output` appears whole and checked, or not at all. Queries
    that cannot be read have a line without references. Raises InputError for equal stems, names that the format cannot carry, and folders
    in folders.
    """
    check_k(k)
    choose_query_dba(query_dba)
    query_list, reference_list = await asyncio.gather(asyncio.to_thread(_flat, queries), asyncio.to_thread(_flat, references))
    with written_whole(output) as file:
        chosen = await choose_model(client, model, observer)
        reference_dba, asked_query_dba = choose_dba(dba, chosen.profile.dba_advice), choose_query_dba(query_dba)
        observer.say(f"embedding {len(query_list.pictures):,} queries with {chosen.version.name}")
        from_queries = await scratch_collection(client, query_list, chosen.space, observer)
        observer.say(f"embedding {len(reference_list.pictures):,} references")
        from_references = await scratch_collection(client, reference_list, chosen.space, observer)
        ranking = await rank(
            client,
            from_queries.collection,
            from_references.collection,
            k,
            query_dba=asked_query_dba.spec,
            reference_dba=reference_dba.spec,
            observer=observer,
        )
        unreadable = {each.id for each in from_queries.failed}
        await asyncio.to_thread(_write, file, query_list, unreadable, ranking)
        await asyncio.to_thread(_check, Path(file.name), query_list, unreadable, reference_list, ranking)
    return Submitted(
        path=output,
        rows=len(query_list.pictures),
        missing=len(unreadable),
        references=len(ranking.reference_ids),
        k=k,
        model=chosen.version.name,
        space=chosen.space.fingerprint,
        dba=reference_dba,
        query_dba=asked_query_dba,
        left_out_queries=(*query_list.left_out, *from_queries.failed),
        left_out_references=(*reference_list.left_out, *from_references.failed),
    )


def stem(picture_id: str) -> str:
    """Return the name of a picture without its extension."""
    return PurePosixPath(picture_id).stem


def _flat(folder: Path) -> Listing:
    listing = scan(folder)
    by_stem: dict[str, str] = {}
    for picture in listing.pictures:
        if "/" in picture.id:
            raise InputError(f"{folder} holds folders ({picture.id}): a submission takes flat folders", reason="NOT_FLAT")
        name = stem(picture.id)
        if name in by_stem:
            raise InputError(f"{folder} holds {by_stem[name]} and {picture.id}: both would be {name!r}, rename one", reason="EQUAL_STEMS")
        if any(letter.isspace() or letter == "," for letter in name):
            message = f"{folder} holds {picture.id!r}: a submission cannot carry spaces or commas in names, rename it"
            raise InputError(message, reason="BAD_NAME")
        by_stem[name] = picture.id
    return listing


def _write(file: TextIO, queries: Listing, unreadable: set[str], ranking: Ranking) -> None:
    names = [stem(each) for each in ranking.reference_ids]
    row_of = {each: row for row, each in enumerate(ranking.query_ids)}
    for picture in queries.pictures:
        row = [] if picture.id in unreadable else ranking.indices[_row(row_of, picture.id)]
        file.write(f"{stem(picture.id)},{' '.join(names[place] for place in row)}\n")
    file.flush()


def _row(row_of: dict[str, int], query: str) -> int:
    if query not in row_of:
        raise WorkIncomplete(f"the ranking has no row for the query {query}: nothing was written, try again", reason="QUERY_MISSING")
    return row_of[query]


def _check(file: Path, queries: Listing, unreadable: set[str], references: Listing, ranking: Ranking) -> None:
    """Read `file` again; raises WorkIncomplete unless every query has its row and every row is full, of known references, none twice."""
    known = {stem(each.id) for each in references.pictures}
    width = ranking.indices.shape[1]
    lines = file.read_text(encoding="utf-8").splitlines()
    if [line.partition(",")[0] for line in lines] != [stem(picture.id) for picture in queries.pictures]:
        raise WorkIncomplete(f"{file} has not one row for each query: nothing was kept, try again", reason="QUERY_MISSING")
    for line, picture in zip(lines, queries.pictures, strict=True):
        ranked = line.partition(",")[2].split()
        wanted = 0 if picture.id in unreadable else width
        if len(ranked) != wanted or len(set(ranked)) != wanted or not known.issuperset(ranked):
            raise WorkIncomplete(f"the row of {picture.id} is not whole: nothing was kept, try again", reason="ROW_INCOMPLETE")
