"""How long a network takes, learnt from the batches that it ran."""

from __future__ import annotations

# Weight of the newest batch in a running mean.
_NEWEST = 0.2
_FIRST_GUESS = 0.02


class Pace:
    """Running means of one network's times, in seconds."""

    def __init__(self) -> None:
        self._single: float | None = None
        self._each: float | None = None

    @property
    def seconds_per_picture(self) -> float:
        """What a picture takes among others; a guess before any batch."""
        return self._each or self._single or _FIRST_GUESS

    def note(self, pictures: int, seconds: float) -> None:
        """Take what a batch took."""
        if pictures == 1:
            self._single = _mean(self._single, seconds)
        else:
            self._each = _mean(self._each, seconds / pictures)

    def pictures_in_the_time_of_one(self) -> int:
        """Return how many pictures take about as long together as one alone, at least 1."""
        if self._single is None or self._each is None:
            return 1
        return max(1, round(self._single / self._each))


def _mean(before: float | None, newest: float) -> float:
    return newest if before is None else before + _NEWEST * (newest - before)
