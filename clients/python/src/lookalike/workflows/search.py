"""What looks like a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lookalike._client import AsyncClient
from lookalike._exceptions import InputError
from lookalike._folders import MAX_PICTURE_BYTES
from lookalike._models import Hit, Problem, Source, Target
from lookalike._names import resource_name
from lookalike.filters import Filter
from lookalike.workflows._model import wait_until_served
from lookalike.workflows._rank import check_k


@dataclass(frozen=True)
class Found:
    """Hits of one picture, best first. `build` is empty where no build gave candidates.

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
    picture: Path | bytes,
    collection: str,
    k: int = 10,
    *,
    exact: bool = False,
    filter: Filter | None = None,
    explain: bool = False,
) -> Found:
    """Return the `k` items (1 to 1,000) of `collection` that are most like `picture`, embedded with what the collection pins.

    With a `filter` only items that meet it are found. `explain` tells of each hit why it is one, for a `k` of 100 at most.

    Raises InputError for a file that is not there or is no picture.
    """
    check_k(k)
    data = picture if isinstance(picture, bytes) else _read(picture)
    pinned = await client.indexer.get_collection(resource_name("collections", collection))
    await wait_until_served(client, pinned.space.model_version)
    embedded = await client.embedder.embed(Target.of(pinned.space), [data])
    (result,) = embedded.results
    if isinstance(result, Problem):
        name = "the picture" if isinstance(picture, bytes) else str(picture)
        raise InputError(f"{name} cannot be used: {result.message}", reason=result.reason)
    found = await client.indexer.search(pinned.name, embedded.vectors, pinned.space, k, exact=exact, filter=filter, explain=explain)
    how = (found.build, found.exact, found.search_k, found.seconds, found.source)
    return Found(found.collection, pinned.space.model_version, found.hits[0], *how)


def _read(file: Path) -> bytes:
    try:
        if file.stat().st_size > MAX_PICTURE_BYTES:
            raise InputError(
                f"{file} has {file.stat().st_size:,} bytes, the limit is {MAX_PICTURE_BYTES:,}: make it smaller", reason="TOO_MANY_BYTES"
            )
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}", reason="NOT_READABLE") from None
