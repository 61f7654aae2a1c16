"""`python -m lookalike_embedder --data DIR` runs the server."""

import os
import sys

# OpenMP's threads wait for one another by spinning. By default they do so for milliseconds, which makes batches ten times slower on
# cores that others use too; not at all makes single pictures slow. This is about as long as it takes from one operation of a network to
# the next. Read when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")

from lookalike_embedder.allocator import keep_freed_memory
from lookalike_embedder.service import EmbedderService
from lookalike_embedder.settings import EmbedderSettings
from lookalike_runtime.server import main

# How long a thread may keep the others from running Python. Of 5 ms, as it is by default, two or three in a row are most of a call.
_SWITCH_SECONDS = 0.0005

if __name__ == "__main__":
    keep_freed_memory()
    sys.setswitchinterval(_SWITCH_SECONDS)
    sys.exit(main("embedder", EmbedderSettings, EmbedderService))
