"""`python -m lookalike_embedder --data DIR` runs the server."""

import os
import sys

# OpenMP's threads wait for one another by spinning, which makes batches ten times slower on cores that others use too.
# Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from lookalike_embedder.allocator import keep_freed_memory
from lookalike_embedder.service import EmbedderService
from lookalike_embedder.settings import EmbedderSettings
from lookalike_runtime.server import main

if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main("embedder", EmbedderSettings, EmbedderService))
