"""`python -m lookalike_trainer.worker JOB_DIR`: one job in a process of its own.

Reads `job.json`; appends to `events.jsonl`; ends with `bundle/` and then `result.json` (exit status 0), or with
`error.json` (1; 74 if the disk has no room even for that). Told to stop by SIGTERM it leaves a checkpoint (143). Started again in the
same folder it goes on from its last checkpoint, and does nothing if the job is done. Where the job takes several devices, it starts a
`worker_rank` for each and ends as they do.
"""

import errno
import os
import sys
import traceback
from pathlib import Path

# OpenMP's threads wait for one another by spinning, which makes steps ten times slower on cores that others use too.
# Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from lookalike_trainer.training.allocator import keep_freed_memory
from lookalike_trainer.training.check_job import run_check
from lookalike_trainer.training.devices import devices_of
from lookalike_trainer.training.ensemble_job import run_ensemble
from lookalike_trainer.training.errors import NO_ROOM_STATUS, Cancelled, JobError, Reason
from lookalike_trainer.training.events import EventLog
from lookalike_trainer.training.import_job import run_import
from lookalike_trainer.training.interruption import Interruption
from lookalike_trainer.training.job import CheckJob, EnsembleJob, ImportJob, Job, ProfileJob, TrainJob, read_job
from lookalike_trainer.training.profile_job import run_profile
from lookalike_trainer.training.ranks import ALONE, PartedError, Ranks
from lookalike_trainer.training.result import Checked, Result, clear, clear_scratch, has_failed, is_done, write_error, write_result
from lookalike_trainer.training.train_job import follow_train, run_train
from lookalike_trainer.worker_ranks import train_on_ranks

_DONE, _FAILED, _PARTED, _STOPPED = 0, 1, 2, 143
_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)


def main(folder: Path, stop: Interruption, ranks: Ranks = ALONE) -> int:
    """Do the job in a folder, or what is left of it; the exit status. Of several ranks, the first one's part."""
    if (failed := has_failed(folder)) or is_done(folder):
        return _FAILED if failed else _DONE
    clear(folder)
    try:
        status = _run(folder, stop, ranks)
    except Cancelled:
        clear(folder)
        return _STOPPED
    except PartedError as error:
        return _say(error)
    except Exception as error:  # whatever it is, the user gets a sentence and the log the traceback
        traceback.print_exc()
        clear(folder)
        clear_scratch(folder)
        return _tell(folder, error)
    if status != _DONE:  # a rank has failed
        clear(folder)
        clear_scratch(folder)
    return status


def follow(folder: Path, stop: Interruption, ranks: Ranks) -> int:
    """The part of another rank than the first; the exit status, 0 wherever the first one says why it ends."""
    try:
        job = read_job(folder / "job.json")
        assert isinstance(job, TrainJob)
        follow_train(job, folder, stop, ranks)
    except (JobError, Cancelled):
        return _DONE
    except PartedError as error:
        return _say(error)
    except Exception as error:  # the first rank does not see it
        traceback.print_exc()
        return _tell(folder, error)
    return _DONE


def _say(error: PartedError) -> int:
    """It is a death: nothing in the folder says that the job has failed, so it goes on from its last checkpoint."""
    print(error, file=sys.stderr, flush=True)
    return _PARTED


def _tell(folder: Path, error: Exception) -> int:
    try:
        write_error(folder, *explain(error))
    except OSError as full:
        if full.errno in _DISK_IS_FULL:
            return NO_ROOM_STATUS
        raise
    return _FAILED


def explain(error: Exception) -> tuple[Reason, str]:
    """A stable reason, and a sentence with what to do."""
    if isinstance(error, JobError):
        return error.reason, str(error)
    if isinstance(error, OSError) and error.errno in _DISK_IS_FULL:
        return Reason.DISK_FULL, f"the disk of the data folder is full ({error.filename or 'while writing'}): make room"
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return (
            Reason.OUT_OF_MEMORY,
            "there is not enough memory; try a smaller `pixels.size`, or fewer `sampler.classes` or `sampler.pictures`",
        )
    name = type(error).__name__
    return Reason.INTERNAL, f"the job failed in a way that was not foreseen ({name}: {error}); its log has the details"


def _run(folder: Path, stop: Interruption, ranks: Ranks) -> int:
    job = read_job(folder / "job.json")
    if isinstance(job, TrainJob) and ranks.size == 1:
        device, count = devices_of(job, folder)
        if count > 1:
            return train_on_ranks(folder, device, count, stop)
    with EventLog(folder / "events.jsonl", job.events_kept) as log:
        result = _do(job, folder, log, stop, ranks)
        write_result(folder, result)
        clear_scratch(folder)
    return _DONE


def _do(job: Job, folder: Path, log: EventLog, stop: Interruption, ranks: Ranks) -> Result | Checked:
    match job:
        case TrainJob():
            return run_train(job, folder, log, stop, ranks)
        case ImportJob():
            return run_import(job, folder, log)
        case CheckJob():
            return run_check(job, folder, log, stop)
        case EnsembleJob():
            return run_ensemble(job, folder, log)
        case ProfileJob():
            return run_profile(job, folder, log, stop)


if __name__ == "__main__":
    interruption = Interruption()
    interruption.listen()
    keep_freed_memory()
    sys.exit(main(Path(sys.argv[1]), interruption))
