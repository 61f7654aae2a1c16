"""Pictures of a dataset become pixels, and the job's log says how far that is."""

from collections.abc import Sequence
from pathlib import Path

from lookalike_images import Preprocessing
from lookalike_trainer.training.dataset import Picture
from lookalike_trainer.training.events import Log
from lookalike_trainer.training.interruption import Interruption
from lookalike_trainer.training.pixels import PixelStore, load_pixels


def prepare_pixels(
    pictures: Sequence[Picture],
    blobs: Path,
    spec: Preprocessing,
    sizes: Sequence[int],
    scratch: Path,
    log: Log,
    stop: Interruption,
    *,
    shared: bool = False,
) -> PixelStore:
    """As `load_pixels`; that it is done is for the caller to report, once the pixels are found to be enough.

    Raises:
        Cancelled: the job was told to stop.
    """
    log.report("prepare", 0, len(pictures), "pictures")

    def progress(done: int, total: int) -> None:
        stop.check()
        log.tick("prepare", done, total, "pictures")

    return load_pixels(pictures, blobs, spec, sizes, scratch, progress, shared=shared)
