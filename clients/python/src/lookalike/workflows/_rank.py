"""Ranking one collection against another, when the indexer has time for it."""

from __future__ import annotations

import asyncio

from lookalike._client import AsyncClient
from lookalike._exceptions import InputError, ResourceExhausted
from lookalike._models import DbaSpec, Ranking
from lookalike.workflows._observer import Observer

MAX_K = 1000

_TRIES = 900
_PAUSE = 2.0


def check_k(k: int) -> int:
    """Return `k` if it is 1 to 1,000; raises InputError otherwise."""
    if not 1 <= k <= MAX_K:
        raise InputError(f"k = {k}: it must be 1 to {MAX_K}", reason="BAD_K")
    return k


async def rank(
    client: AsyncClient,
    queries: str,
    references: str,
    k: int,
    *,
    query_dba: DbaSpec | None,
    reference_dba: DbaSpec | None,
    exclude_same_id: bool = False,
    observer: Observer,
) -> Ranking:
    """Rank `references` for `queries`; waits for its turn while another ranking is under way."""
    for attempt in range(_TRIES):
        try:
            return await client.indexer.rank(
                queries,
                references,
                k,
                query_dba=query_dba,
                reference_dba=reference_dba,
                exclude_same_id=exclude_same_id,
                progress=observer.work,
            )
        except ResourceExhausted as error:
            if error.reason != "RANK_RUNNING" or attempt == _TRIES - 1:
                raise
            if attempt == 0:
                observer.say("another ranking is under way: waiting for it")
            await asyncio.sleep(error.retry_after or _PAUSE)
    raise AssertionError("the last try returns or raises")
