"""What looks like a picture."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike._client import AsyncClient
from lookalike._exceptions import InputError
from lookalike._folders import MAX_PICTURE_BYTES
from lookalike._models import Combine, Expansion, Hit, Problem, Source, Space, Target
from lookalike._names import resource_name
from lookalike.filters import Filter
from lookalike.workflows._model import wait_until_served
from lookalike.workflows._rank import check_k

MAX_PICTURES = 32


@dataclass(frozen=True)
class Found:
    """Hits of one query, best first. `build` is empty where no build gave candidates.

    `exact`: every vector was compared; else `source` gave candidates.
    """

    collection: str
    model: str
    hits: tuple[Hit, ...]
    build: str
    exact: bool
    search_k: int
    seconds: float
    source: Source


async def search(
    client: AsyncClient,
    pictures: Path | bytes | Sequence[Path | bytes],
    collection: str,
    k: int = 10,
    *,
    like: Sequence[str] = (),
    combine: Combine = Combine.MEAN,
    exact: bool = False,
    recall: float | None = None,
    min_score: float | None = None,
    expansion: Expansion | None = None,
    group_by_label: bool = False,
    filter: Filter | None = None,
    explain: bool = False,
) -> Found:
    """Return the `k` items (1 to 1,000) of `collection` that are most like `pictures`, embedded with what the collection pins.

    Several pictures, at most 32, are one query, which `combine` makes of them. Without pictures, `like` are ids of items that ask
    instead, and are no hits. The other options are those of `AsyncIndexer.search`.

    Raises InputError for a file that is not there or is no picture, and for options that do not go together.
    """
    check_k(k)
    files = [pictures] if isinstance(pictures, Path | bytes) else list(pictures)
    size = len(files) or len(like)
    if bool(files) == bool(like):
        raise InputError("give pictures, or ids of items to look like: one of both", reason="BAD_QUERY")
    if size > MAX_PICTURES:
        raise InputError(f"{size} pictures are one query: at most {MAX_PICTURES}", reason="BAD_QUERY")
    if exact and recall is not None:
        raise InputError("exact search finds all: leave the recall out", reason="BAD_EFFORT")
    if recall is not None and not 0 < recall < 1:
        raise InputError(f"recall = {recall:g}: it must be over 0 and below 1; exact search finds all", reason="BAD_EFFORT")
    datas = [each if isinstance(each, bytes) else _read(each) for each in files]
    pinned = await client.indexer.get_collection(resource_name("collections", collection))
    vectors = await _embedded(client, pinned.space, files, datas) if datas else None
    found = await client.indexer.search(
        pinned.name,
        vectors,
        pinned.space,
        k,
        item_ids=None if datas else like,
        query_sizes=[size],
        combine=combine,
        exact=exact,
        recall=recall,
        min_score=min_score,
        expansion=expansion,
        group_by_label=group_by_label,
        filter=filter,
        explain=explain,
    )
    how = (found.build, found.exact, found.search_k, found.seconds, found.source)
    return Found(found.collection, pinned.space.model_version, found.hits[0], *how)


async def _embedded(client: AsyncClient, space: Space, pictures: Sequence[Path | bytes], datas: Sequence[bytes]) -> NDArray[np.float32]:
    """Return the vectors [n, dim] of pictures; raises InputError naming the first that cannot be used."""
    await wait_until_served(client, space.model_version)
    # A call each: together they might not fit into one message.
    answers = await asyncio.gather(*(client.embedder.embed(Target.of(space), [data]) for data in datas))
    for picture, answer in zip(pictures, answers, strict=True):
        if isinstance(result := answer.results[0], Problem):
            name = "the picture" if isinstance(picture, bytes) else str(picture)
            raise InputError(f"{name} cannot be used: {result.message}", reason=result.reason)
    return np.concatenate([answer.vectors for answer in answers])


def _read(file: Path) -> bytes:
    try:
        if file.stat().st_size > MAX_PICTURE_BYTES:
            raise InputError(
                f"{file} has {file.stat().st_size:,} bytes, the limit is {MAX_PICTURE_BYTES:,}: make it smaller", reason="TOO_MANY_BYTES"
            )
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}", reason="NOT_READABLE") from None
