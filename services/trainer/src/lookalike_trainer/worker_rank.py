"""`python -m lookalike_trainer.worker_rank JOB_DIR DEVICE`: one of several processes that train together, started by torchrun.

The first rank does all that a worker does; the others take part in its steps, and end with status 0 wherever it says why it ends.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # Linux's prctl.h


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def see_own_device() -> None:
    """Of the CUDA devices only this rank's, so that `cuda` means it everywhere; before torch looks for them."""
    own, visible = int(os.environ["LOCAL_RANK"]), os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[own] if visible else str(own)


def _run(folder: Path, device: str) -> int:
    from lookalike_trainer import worker
    from lookalike_trainer.training.allocator import keep_freed_memory
    from lookalike_trainer.training.interruption import Interruption
    from lookalike_trainer.training.ranks import joined

    stop = Interruption()
    stop.listen()
    keep_freed_memory()
    with joined(device) as ranks:
        return worker.main(folder, stop, ranks) if ranks.is_first else worker.follow(folder, stop, ranks)


if __name__ == "__main__":
    _end_with_parent()
    if sys.argv[2] == "cuda":
        see_own_device()
    sys.exit(_run(Path(sys.argv[1]), sys.argv[2]))
