"""A worker whose job takes several devices: it runs a rank for each under torchrun, in place of the work itself."""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from lookalike_trainer.training.errors import NO_ROOM_STATUS, Cancelled
from lookalike_trainer.training.interruption import Interruption
from lookalike_trainer.training.parts_request import asked_parts
from lookalike_trainer.training.ranks import PartedError
from lookalike_trainer.training.result import SCRATCH, has_failed, is_done

_DONE, _FAILED, _STOPPED = 0, 1, 143
_torchrun: Any = torchrun  # without types
_RANK = "lookalike_trainer.worker_rank"


def train_on_ranks(folder: Path, device: str, count: int, stop: Interruption) -> int:
    """Run a job's ranks to their end; the exit status.

    Ranks that end because one lacks memory are started again, with smaller parts.

    Args:
        device: `cpu` or `cuda`.
        count: of the ranks.

    Raises:
        Cancelled: the job was told to stop; the ranks have.
        PartedError: a rank died, and the others with it.
    """
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all are on this machine
    os.environ["OMP_NUM_THREADS"] = str(max(torch.get_num_threads() // count, 1))
    while True:
        parts = asked_parts(folder)
        statuses = _run(folder, device, count, stop)
        if is_done(folder):
            return _DONE
        if has_failed(folder):
            return _FAILED
        if _STOPPED in statuses.values():
            raise Cancelled
        if NO_ROOM_STATUS in statuses.values():
            return NO_ROOM_STATUS
        if asked_parts(folder) <= parts:
            raise PartedError(_describe(statuses))


def _run(folder: Path, device: str, count: int, stop: Interruption) -> Mapping[int, int]:
    """Statuses of the ranks that failed, negative for a signal; all ranks are gone."""
    options = ["--standalone", "--nnodes=1", f"--nproc-per-node={count}", "--max-restarts=0", "--local-addr=127.0.0.1"]
    logs = ["--log-dir", str(folder / SCRATCH)]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _pass_on)  # torchrun takes over once there are ranks
    stop.check()
    try:
        _torchrun.run(_torchrun.parse_args([*options, *logs, "-m", _RANK, str(folder), device]))
    except ChildFailedError as error:
        return {rank: failure.exitcode for rank, failure in error.failures.items()}
    except SignalException:
        return dict.fromkeys(range(count), _STOPPED)
    return {}


def _pass_on(number: int, _frame: FrameType | None) -> None:
    raise SignalException("told to stop", signal.Signals(number))


def _describe(statuses: Mapping[int, int]) -> str:
    """One that was killed is the cause; the others end because they have lost it, or of the SIGTERM that torchrun then sends."""
    rank, status = min(statuses.items(), key=lambda each: (each[1] == -signal.SIGTERM, each[1]))
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
    hint = " (the machine may be out of memory)" if status == -signal.SIGKILL else ""
    return f"rank {rank} of the training {how}{hint}"
