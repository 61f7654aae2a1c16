"""Which source answers which searches: the cheapest that was measured to meet the recall target.

As a database chooses between an index and a sequential scan.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import Final, NamedTuple

from lookalike_indexer.records import EffortPoint, Index, PlanEntry, Source

PLANNED_K: Final = (1, 10, 100, 1_000)
CURVE_K: Final = 10
# Recalls that a search may ask for: the cheapest ways to each are timed, beside those to the target.
LEVELS: Final = (0.8, 0.9, 0.99)


class Plan(NamedTuple):
    """`entries` are ordered by k, single queries first; `best` is what has the highest recall at 10 of any source but exact.

    `curve` and `chosen` are the points of one Annoy for 10 hits of single queries, cheapest first, and the one to use; `annoy` is which,
    where Annoy has a part.
    """

    entries: tuple[PlanEntry, ...] = ()
    measured: tuple[PlanEntry, ...] = ()
    curve: tuple[EffortPoint, ...] = ()
    chosen: EffortPoint | None = None
    annoy: Index | None = None
    best: PlanEntry | None = None
    probe_count: int = 0

    @property
    def indexes(self) -> set[Index]:
        """What the plan needs files of."""
        return {entry.index for entry in self.entries if entry.source != "exact"}

    def uses(self, source: Source) -> bool:
        return any(entry.source == source for entry in self.entries)


def make_plan(
    measured: Sequence[PlanEntry], target: float, *, forced: Source | None, probe_count: int, lost: Set[Index] = frozenset()
) -> Plan:
    """Choose among what was `measured`, each for one number of hits and for single queries or batches; what was not timed is not chosen,
    nor what has `lost` its file.

    With `forced` among those of one source alone: its best where all miss the target.
    """
    there = [each for each in measured if each.index not in lost]
    slots = ([each for each in there if (each.k, each.batch) == (k, batch)] for k in PLANNED_K for batch in (False, True))
    entries = tuple(entry for slot in slots if (entry := cheapest(slot, target, forced)))
    at_ten = [each for each in measured if each.k == CURVE_K and not each.batch]
    annoy = _shown(entries, at_ten)
    tried = [each for each in at_ten if each.source == "annoy" and each.index == annoy and each.milliseconds > 0]
    has_part = any(entry.source == "annoy" for entry in entries)
    best = cheapest(tried, target, "annoy") if has_part else None
    chosen = best if best and (forced or best.recall_low >= target) else None
    highest = max((each for each in at_ten if each.source != "exact"), key=lambda each: each.recall_low, default=None)
    curve = tuple(_point(each) for each in sorted(tried, key=lambda each: each.milliseconds))
    return Plan(entries, tuple(measured), curve, _point(chosen) if chosen else None, annoy if has_part else None, highest, probe_count)


def worth_timing(tried: Sequence[PlanEntry], target: float) -> list[PlanEntry]:
    """Return those efforts of one index for one number of hits that may be the cheapest to the target, or to what a search asks for.

    That is those that meet it by the lower end of their interval without doing more than another that does; or the best if none does.
    """
    highest = max((each.recall_low for each in tried), default=0.0)
    worthy = {id(each): each for level in (*LEVELS, target) if level <= highest for each in _meeting(tried, level)}
    worthy |= {id(each): each for each in _meeting(tried, min(target, highest))}
    return list(worthy.values())


def cheapest(measured: Iterable[PlanEntry], target: float, forced: Source | None) -> PlanEntry | None:
    """Return what was timed to be the cheapest of those that meet the target; with `forced`, of one source, its best if none meets it."""
    timed = [each for each in measured if each.milliseconds > 0 and forced in (None, each.source)]
    highest = max((each.recall_low for each in timed), default=0.0)
    least = min(target, highest) if forced else target
    return min((each for each in timed if each.recall_low >= least), key=lambda each: each.milliseconds, default=None)


def _shown(entries: Iterable[PlanEntry], at_ten: Iterable[PlanEntry]) -> Index | None:
    """Return the Annoy whose curve is reported: that of the plan, for 10 hits of single queries if possible, else that of most recall."""
    used = sorted((each for each in entries if each.source == "annoy"), key=lambda each: (each.k != CURVE_K, each.batch, each.k))
    tried = [each for each in at_ten if each.source == "annoy"]
    best = max(tried, key=lambda each: each.recall_low, default=None)
    return used[0].index if used else best.index if best else None


def _meeting(tried: Sequence[PlanEntry], target: float) -> list[PlanEntry]:
    met = [each for each in tried if each.recall_low >= target]
    return [each for each in met if not any(_does_less(other, each) for other in met)]


def _does_less(one: PlanEntry, other: PlanEntry) -> bool:
    efforts = (one.search_k, one.depth), (other.search_k, other.depth)
    return efforts[0] != efforts[1] and one.search_k <= other.search_k and one.depth <= other.depth


def _point(entry: PlanEntry) -> EffortPoint:
    return EffortPoint(
        search_k=entry.search_k, depth=entry.depth, recall=entry.recall, recall_low=entry.recall_low, milliseconds=entry.milliseconds
    )
