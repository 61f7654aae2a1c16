"""Query expansion: a query becomes the weighted mean of itself and the nearest of what it was searched in.

Sources: O. Chum, J. Philbin, J. Sivic, M. Isard and A. Zisserman, "Total recall: automatic query expansion with a generative
feature model for object retrieval", ICCV 2007, for average query expansion (AQE); F. Radenović, G. Tolias and O. Chum,
"Fine-tuning CNN image retrieval with no human annotation", IEEE TPAMI 2018, section 3.4, for αQE, which weighs by similarity.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike_retrieval.normalise import check_matrix, normalise

_VANISHED = 1e-6  # a sum of unit rows shorter than this is rounding noise


def expand_query(query: NDArray[np.floating[Any]], neighbours: NDArray[np.floating[Any]], alpha: float = 0.0) -> NDArray[np.float32]:
    """Return the query that its neighbours make of it: q' = (q + Σ w(n) n) / ‖q + Σ w(n) n‖.

    With `alpha` = 0 all weigh 1, as the query does (AQE); else w(n) = max(0, cos(q, n)) to the power of `alpha` (αQE).

    Args:
        query: [d], of unit length.
        neighbours: [m, d] unit rows, in any order; m may be 0.
        alpha: 0 or more.

    Returns:
        float32 [d], of unit length. A mean that vanishes (opposite vectors) leaves the query's own direction.

    Raises:
        VectorError: the query is zero or not finite.
        ValueError: shapes that do not fit, or a negative or not finite `alpha`.
    """
    check_matrix("neighbours", neighbours)
    if query.shape != (neighbours.shape[1],):
        raise ValueError(f"the query has the shape {list(query.shape)}, neighbours have {neighbours.shape[1]} dimensions")
    if not 0 <= alpha < np.inf:
        raise ValueError(f"alpha must be 0 or more, not {alpha}")
    own = query.astype(np.float64)
    others = neighbours.astype(np.float64)
    weights = np.maximum(others @ own, 0.0) ** alpha if alpha else np.ones(len(others))
    total = own + weights @ others
    mean = own if np.linalg.norm(total) < _VANISHED else total
    unit: NDArray[np.float32] = normalise(mean[None])[0]
    return unit
