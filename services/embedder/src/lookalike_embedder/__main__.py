"""`python -m lookalike_embedder --data DIR` runs the server."""

import sys

from lookalike_embedder.service import EmbedderService
from lookalike_embedder.settings import EmbedderSettings
from lookalike_runtime.server import main

if __name__ == "__main__":
    sys.exit(main("embedder", EmbedderSettings, EmbedderService))
