"""Which augmentation is used, and where that comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lookalike._exceptions import InputError
from lookalike._models import DbaSpec, DbaWeights

MAX_DBA_K = 100


@dataclass(frozen=True)
class DbaChoice:
    """`spec` is None for off; `source` is `given`, `profile` (its advice) or `default`."""

    spec: DbaSpec | None
    source: str

    @property
    def k(self) -> int:
        """Neighbours besides the item itself; 0 is off."""
        return self.spec.k if self.spec else 0


def choose_dba(k: int | None, advice: DbaSpec | None) -> DbaChoice:
    """Return augmentation with `k` neighbours (0 is off), or what the profile advises if `k` is None.

    Raises InputError if `k` is out of 0 to 100.
    """
    if k is None:
        return DbaChoice(_or_off(advice), "profile") if advice else DbaChoice(None, "default")
    if not 0 <= k <= MAX_DBA_K:
        raise InputError(f"DBA with k = {k}: it must be 0 (off) to {MAX_DBA_K}", reason="BAD_DBA")
    return DbaChoice(_or_off(DbaSpec(k, advice.weights if advice else DbaWeights.LINEAR)), "given")


def choose_query_dba(k: int | None) -> DbaChoice:
    """Return augmentation of queries among queries with `k` neighbours; off if `k` is None, since it needs all queries at once."""
    return DbaChoice(None, "default") if k is None else choose_dba(k, None)


def dba_document(choice: DbaChoice) -> dict[str, Any]:
    """Return a choice as reports hold it."""
    return {"k": choice.k, "weights": choice.spec.weights.lower() if choice.spec else None, "source": choice.source}


def _or_off(spec: DbaSpec) -> DbaSpec | None:
    return spec if spec.k else None
