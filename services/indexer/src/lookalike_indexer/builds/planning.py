"""Which source answers which searches: the cheapest that was measured to meet the recall target.

As a database chooses between an index and a sequential scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from lookalike_indexer.builds.measure import Recall
from lookalike_indexer.candidates import Effort
from lookalike_indexer.records import EffortPoint, PlanEntry, Source

PLANNED_K: Final = (1, 10, 100, 1_000)
CURVE_K: Final = 10


class Option(NamedTuple):
    """One way to answer searches for `k` hits, and its recall at min(k, n)."""

    k: int
    source: Source
    reduced_dim: int
    effort: Effort
    recall: Recall


class Timer(Protocol):
    """Milliseconds a query of an option, for single queries or batches."""

    def __call__(self, option: Option, batch: bool) -> float: ...


class Plan(NamedTuple):
    """`entries` are ordered by k, single queries first; `best` is the highest recall at 10 of any source but exact.

    `curve` and `chosen` are Annoy's points for 10 hits of single queries, cheapest first, and the one to use, where Annoy has a part.
    """

    entries: tuple[PlanEntry, ...]
    curve: tuple[EffortPoint, ...]
    chosen: EffortPoint | None
    best: Recall | None
    probe_count: int

    @property
    def sources(self) -> set[tuple[Source, int]]:
        """What the plan needs: sources with the dimensions that they see."""
        return {(entry.source, entry.reduced_dim) for entry in self.entries}


def exact_option(k: int) -> Option:
    """Return what needs no index: all are found."""
    return Option(k, "exact", 0, Effort(0, 0), Recall(1.0, 1.0))


def make_plan(options: Sequence[Option], target: float, timer: Timer, *, forced: bool, probe_count: int) -> Plan:
    """Choose among `options`, and exact search, for each number of hits; with `forced` among those of Annoy alone, met target or not."""
    entries = tuple(
        entry
        for k in PLANNED_K
        for batch in (False, True)
        if (entry := _cheapest([each for each in options if each.k == k], target, timer, batch, forced))
    )
    tried = [each for each in options if (each.source, each.k) == ("annoy", CURVE_K)]
    curve = sorted((_point(_entry(each, timer, batch=False)) for each in tried), key=lambda point: point.milliseconds)
    has_part = any(entry.source == "annoy" for entry in entries)
    best = _cheapest(tried, target, timer, batch=False, forced=True) if has_part and (forced or _meeting(tried, target)) else None
    highest = max((each.recall for each in options if each.k == CURVE_K), key=lambda recall: recall.low, default=None)
    return Plan(entries, tuple(curve), _point(best) if best else None, highest, probe_count)


def _cheapest(options: Sequence[Option], target: float, timer: Timer, batch: bool, forced: bool) -> PlanEntry | None:
    if forced:
        options = [each for each in options if each.source == "annoy"]
        highest = max((each.recall.low for each in options), default=0.0)
        worthy = _meeting(options, min(target, highest))
    else:
        worthy = [*_meeting(options, target), exact_option(options[0].k)]
    return min((_entry(each, timer, batch) for each in worthy), key=lambda entry: entry.milliseconds, default=None)


def _meeting(options: Sequence[Option], target: float) -> list[Option]:
    """Return those that meet the target by the lower end of their interval, without those that only do more than another of them."""
    met = [each for each in options if each.recall.low >= target]
    return [each for each in met if not any(_does_less(other, each) for other in met)]


def _does_less(one: Option, other: Option) -> bool:
    same = (one.source, one.reduced_dim) == (other.source, other.reduced_dim)
    return same and one.effort != other.effort and one.effort.search_k <= other.effort.search_k and one.effort.depth <= other.effort.depth


def _entry(option: Option, timer: Timer, batch: bool) -> PlanEntry:
    return PlanEntry(
        k=option.k,
        batch=batch,
        source=option.source,
        reduced_dim=option.reduced_dim,
        search_k=option.effort.search_k,
        depth=option.effort.depth,
        recall=option.recall.mean,
        recall_low=option.recall.low,
        milliseconds=timer(option, batch),
    )


def _point(entry: PlanEntry) -> EffortPoint:
    return EffortPoint(
        search_k=entry.search_k, depth=entry.depth, recall=entry.recall, recall_low=entry.recall_low, milliseconds=entry.milliseconds
    )
