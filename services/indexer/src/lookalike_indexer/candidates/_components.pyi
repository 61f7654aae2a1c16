"""Projection of one vector, compiled from `cpp/components.cpp`."""

import numpy as np
from numpy.typing import NDArray

class Components:
    """`components` [m, d] of length one, rounded to 16 bits, and what the products with them are less by: `offset` [m]."""

    def __init__(self, components: NDArray[np.float32], offset: NDArray[np.float32]) -> None:
        """Copy them. Raises ValueError for misfits, and if a component is longer than 1.01 or not finite."""

    def project(self, vector: NDArray[np.float32], dims: int) -> NDArray[np.float32]:
        """Return the first `dims` coordinates [1, dims] of a unit `vector` [1, d], which is rounded to 16 bits, too.

        They are within 1e-3 of the exact ones, mostly within 1e-4. Raises ValueError for misfits, and for a vector that is longer than 1.01
        or not finite.
        """
