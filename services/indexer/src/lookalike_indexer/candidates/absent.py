"""Rows of a build that do not count. What each search asks of them is found out once, however many searches come."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Absent:
    """`rows` bool [n] marks those that were replaced or deleted, or that a filter leaves out."""

    rows: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def places(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.rows)

    @property
    def count(self) -> int:
        return len(self.places)

    @cached_property
    def alive(self) -> int:
        """How many rows count."""
        return len(self.rows) - len(self.places)

    @cached_property
    def live(self) -> NDArray[np.int64]:
        """The rows that count."""
        return np.flatnonzero(~self.rows)
