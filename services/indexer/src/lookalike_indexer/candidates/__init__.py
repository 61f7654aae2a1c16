"""Sources of candidates: which rows may be among the nearest of a query. What they propose is ranked exactly afterwards."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Proposal(NamedTuple):
    """Rows for each query, int64, none of them dead. `search_k` is the nodes looked at, 0 where every vector was compared."""

    rows: list[NDArray[np.int64]]
    search_k: int


class Candidates(Protocol):
    """One source. Its rows are those of the vectors that it was made of."""

    def propose(self, queries: NDArray[np.float32], k: int, dead: NDArray[np.bool_], search_k: int | None = None) -> Proposal:
        """Propose rows for unit `queries` [q, d] so that the best `k` of them are likely the nearest; `dead` [n] rows are left out.

        `search_k` asks for another effort than the source's own, where it has one.
        """
        ...
