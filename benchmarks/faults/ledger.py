"""What a server has acknowledged, and what was under way when it died."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.faults.server import Value

Change = Mapping[str, Value | None]


@dataclass
class Verdict:
    """What a comparison of a store with a ledger found; each list holds ids.

    lost: acknowledged, but gone or of an older value. resurrected: acknowledged as deleted, but there. torn: of a write under way, some of
    it is there and some not. strange: never written.
    """

    lost: list[str] = field(default_factory=list)
    resurrected: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.resurrected or self.torn or self.strange)


class Ledger:
    """One writer's account of a collection."""

    def __init__(self) -> None:
        self.kept: dict[str, Value] = {}
        self.gone: set[str] = set()
        self.under_way: Change = {}
        self.acknowledged = 0

    def begin(self, change: Change) -> None:
        """Note a write that is about to be asked for; None deletes."""
        self.under_way = change

    def acknowledge(self) -> None:
        """Note that the write under way was acknowledged."""
        for each, value in self.under_way.items():
            if value is None:
                self.kept.pop(each, None)
                self.gone.add(each)
            else:
                self.kept[each] = value
                self.gone.discard(each)
        self.acknowledged += len(self.under_way)
        self.under_way = {}

    def settle(self, stored: Mapping[str, Value]) -> Verdict:
        """Compare with what is stored, and go on from that: a write under way happened, or did not, but not by halves."""
        verdict = Verdict()
        doubtful = self.under_way
        for each, value in self.kept.items():
            if each not in doubtful and stored.get(each) != value:
                verdict.lost.append(each)
        for each in stored.keys() - self.kept.keys() - doubtful.keys():
            (verdict.resurrected if each in self.gone else verdict.strange).append(each)
        happened = all(stored.get(each) == value for each, value in doubtful.items())
        did_not = all(stored.get(each) == self.kept.get(each) for each in doubtful)
        if not (happened or did_not):
            verdict.torn.extend(doubtful)
        self.gone |= {each for each in doubtful if each not in stored}
        self.kept, self.under_way = dict(stored), {}
        self.gone -= stored.keys()
        return verdict
