"""`python -m lookalike_indexer`: the indexer as a server."""

from __future__ import annotations

import sys

from lookalike_indexer.service import IndexerService
from lookalike_indexer.settings import IndexerSettings
from lookalike_runtime.server import main


def run() -> int:
    """Serve until SIGTERM; returns the exit status."""
    return main("indexer", IndexerSettings, IndexerService)


if __name__ == "__main__":
    sys.exit(run())
