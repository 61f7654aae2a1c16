"""What one look at a collection decides, when the rest of the server goes on meanwhile."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lookalike_indexer.builds.automatic import AutomaticBuilds, _Seen
from lookalike_indexer.collections import Drift
from lookalike_indexer.records import Build, BuildSpec, Collection, Dba, Space
from lookalike_runtime.errors import FailedPrecondition

SEEN = Collection(
    uid="u",
    name="c",
    space=Space(fingerprint="f", model="m", version=1, profile="p", dim=8),
    engine="annoy",
    dba=Dba(),
    recall_target=0.95,
    create_time=0,
    active_build=1,
)


class Server:
    """A collection with enough changes: what its builds were asked for with is noted; `refusal` is what the queue says to them."""

    def __init__(self, refusal: Exception | None) -> None:
        self.refusal = refusal
        self.begun: list[Collection] = []
        first = Build(number=1, request_id="r", spec=BuildSpec(), state="SUCCEEDED", create_time=0)
        self.catalog = SimpleNamespace(all=lambda: [SEEN], by_uid=lambda _: SEEN)
        self.collections = SimpleNamespace(revision=lambda _: 7, drift=lambda _: Drift(7, 1_000, 500), open=lambda record: record)
        self.builds = SimpleNamespace(page=lambda *_: [first], get=lambda *_: first)

    async def begin_automatic(self, _: object, seen: Collection, __: object) -> Build:
        self.begun.append(seen)
        if self.refusal:
            raise self.refusal
        return Build(number=2, request_id="r", spec=BuildSpec(), create_time=0)

    async def look_twice(self) -> list[Collection]:
        """Return what builds were asked for with: at the first look writes may still be going on."""
        parts = [cast("Any", each) for each in (self.collections, self.catalog, self.builds, self)]
        automatic = AutomaticBuilds(*parts, share=0.1, least_items=100, seconds=1)
        automatic._seen = {SEEN.uid: _Seen()}
        for _ in range(2):
            with suppress(FailedPrecondition):
                await automatic._look_safely(SEEN)
        assert not automatic._seen[SEEN.uid].left_looks
        return self.begun


@pytest.mark.parametrize("refusal", [None, FailedPrecondition("COLLECTION_CHANGED", "")], ids=["begun", "refused"])
async def test_a_build_is_asked_for_with_what_was_seen_and_a_refusal_is_no_failure(refusal: Exception | None) -> None:
    assert await Server(refusal).look_twice() == [SEEN]
