"""What one look at a collection decides, when the rest of the server goes on meanwhile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from lookalike_indexer.builds.automatic import AutomaticBuilds, _Seen
from lookalike_indexer.collections import Drift
from lookalike_indexer.records import Build, BuildSpec, Collection, Dba, Space

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
    """A collection with enough changes, whose builds are noted; `now` is what the catalog says in the end."""

    def __init__(self, now: Collection | None) -> None:
        self.now, self.begun = now, 0
        first = Build(number=1, request_id="r", spec=BuildSpec(), state="SUCCEEDED", create_time=0)
        self.catalog = SimpleNamespace(all=lambda: [SEEN], by_uid=lambda _: self.now)
        self.collections = SimpleNamespace(revision=lambda _: 7, drift=lambda _: Drift(7, 1_000, 500), open=lambda record: record)
        self.builds = SimpleNamespace(page=lambda *_: [first], get=lambda *_: first)

    async def begin_automatic(self, _: object, __: object) -> Build:
        self.begun += 1
        return Build(number=2, request_id="r", spec=BuildSpec(), create_time=0)

    async def look_twice(self) -> int:
        """Return how many builds begin: at the first look writes may still be going on."""
        parts = [cast("Any", each) for each in (self.collections, self.catalog, self.builds, self)]
        automatic = AutomaticBuilds(*parts, share=0.1, least_items=100, seconds=1)
        automatic._seen = {SEEN.uid: _Seen()}
        for _ in range(2):
            await automatic._look_safely(SEEN)
        return self.begun


@pytest.mark.parametrize(
    ("now", "begun"),
    [
        (SEEN, 1),
        (SEEN.model_copy(update={"active_build": 2}), 0),
        (SEEN.model_copy(update={"pinned": True}), 0),
        (None, 0),
    ],
    ids=["nothing happened", "a build has come to answer", "its build was pinned", "it was deleted"],
)
async def test_a_build_begins_unless_the_collection_has_changed_since_it_was_looked_at(now: Collection | None, begun: int) -> None:
    assert await Server(now).look_twice() == begun
