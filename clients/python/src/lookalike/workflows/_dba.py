"""Which augmentation is used, and where that comes from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from lookalike._exceptions import InputError
from lookalike._models import DbaSpec, DbaWeights
from lookalike_retrieval.dba import DEFAULT_POWER

MAX_DBA_K = 100
MAX_DBA_POWER = 20
MAX_DBA_ROUNDS = 10


@dataclass(frozen=True)
class DbaChoice:
    """`spec` is None for off; `source` is `given`, `profile` (its advice) or `default`."""

    spec: DbaSpec | None
    source: str

    @property
    def k(self) -> int:
        """Neighbours besides the item itself; 0 is off."""
        return self.spec.k if self.spec else 0


def choose_dba(asked: int | DbaSpec | None, advice: DbaSpec | None) -> DbaChoice:
    """Return the augmentation that was asked for, or what the profile advises if nothing was.

    A number is k, weighted as the profile advises; 0 is off. Raises InputError for what is out of range.
    """
    if asked is None:
        return DbaChoice(_or_off(advice), "profile") if advice else DbaChoice(None, "default")
    if isinstance(asked, int):
        asked = replace(advice, k=asked) if advice else DbaSpec(asked)
    _check(asked)
    return DbaChoice(_or_off(asked), "given")


def choose_query_dba(asked: int | DbaSpec | None) -> DbaChoice:
    """Return augmentation of queries among queries; off if nothing was asked for, since it needs all queries at once."""
    return DbaChoice(None, "default") if asked is None else choose_dba(asked, None)


def dba_document(choice: DbaChoice) -> dict[str, Any]:
    """Return a choice as reports hold it."""
    spec = choice.spec
    if spec is None:
        return {"k": 0, "weights": None, "power": None, "rounds": None, "source": choice.source}
    power = (spec.power or DEFAULT_POWER) if spec.weights is DbaWeights.POWER else None
    return {"k": spec.k, "weights": spec.weights.lower(), "power": power, "rounds": spec.rounds or 1, "source": choice.source}


def said_dba(spec: DbaSpec | None) -> str:
    """Return augmentation as people read it."""
    if spec is None or spec.k == 0:
        return "off"
    return f"{spec.k} neighbours, {spec.weights.lower()} weights" + (f", {spec.rounds} rounds" if spec.rounds > 1 else "")


def same_dba(one: DbaSpec | None, other: DbaSpec | None) -> bool:
    """Tell whether both augment alike; None is off."""
    left, right = (dba_document(DbaChoice(_or_off(spec) if spec else None, "")) for spec in (one, other))
    return left == right


def _check(spec: DbaSpec) -> None:
    if not 0 <= spec.k <= MAX_DBA_K:
        raise InputError(f"DBA with k = {spec.k}: it must be 0 (off) to {MAX_DBA_K}", reason="BAD_DBA")
    if not 0 <= spec.power <= MAX_DBA_POWER:
        raise InputError(f"DBA with the power {spec.power:g}: it must be above 0, to {MAX_DBA_POWER}", reason="BAD_DBA")
    if spec.power and spec.weights is not DbaWeights.POWER:
        raise InputError(
            f"DBA with a power but {spec.weights.lower()} weights: a power goes with the weights power alone", reason="BAD_DBA"
        )
    if not 0 <= spec.rounds <= MAX_DBA_ROUNDS:
        raise InputError(f"DBA with {spec.rounds} rounds: it must be 1 to {MAX_DBA_ROUNDS}", reason="BAD_DBA")


def _or_off(spec: DbaSpec) -> DbaSpec | None:
    return spec if spec.k else None
