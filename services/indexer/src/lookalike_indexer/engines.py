"""Which engines a collection may name here."""

from __future__ import annotations

from lookalike_indexer.candidates.hnsw import require_hnsw
from lookalike_indexer.records import Engine


def require_engine(engine: Engine) -> Engine:
    """Return `engine`; raises FailedPrecondition if the server lacks what it needs."""
    if engine == "hnsw":
        require_hnsw()
    return engine
