"""A job's figures for TensorBoard, in event files in its folder: `tensorboard --logdir DATA/trainer/jobs` shows every job as a run."""

from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter


class ScalarLog:
    """Writes figures as scalars; no file is made before the first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Write figures of a step. Where an earlier run of the job came further, what it wrote from here on no longer counts."""
        if not figures:
            return
        if self._writer is None:
            self._writer = SummaryWriter(str(self._folder), purge_step=step, write_to_disk=True)
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
