"""Pictures decoded and preprocessed once, kept as pixels for the whole training."""

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike_images import PictureError, Preprocessing, decode, preprocess
from lookalike_trainer.blobs import blob_path
from lookalike_trainer.training.dataset import Picture, Unreadable
from lookalike_trainer.training.errors import JobError, Reason

_IN_MEMORY_BYTES = 1 << 30
_BLOCK = 256

Pixels = NDArray[np.uint8]
OnProgress = Callable[[int, int], None]


class PixelStore:
    """uint8 [pictures, s, s, 3] for each size s that is needed, in memory or in a file where that is too large.

    Rows belong to the pictures that could be read, in their order.
    """

    def __init__(self, by_size: dict[int, Pixels], pictures: Sequence[Picture], unreadable: Sequence[Unreadable]) -> None:
        self._by_size = by_size
        self.pictures = tuple(pictures)
        self.unreadable = tuple(unreadable)

    def rows(self, size: int, rows: NDArray[np.int64]) -> Pixels:
        """uint8 [rows, size, size, 3]."""
        return np.ascontiguousarray(self._by_size[size][rows])


def load_pixels(
    pictures: Sequence[Picture],
    blobs: Path,
    spec: Preprocessing,
    sizes: Sequence[int],
    scratch: Path,
    progress: OnProgress,
) -> PixelStore:
    """Decode every picture once and preprocess it to each size.

    Args:
        blobs: root of the contents.
        spec: its size is replaced by each of the sizes.
        scratch: folder for what does not fit into memory.
        progress: called with (done, total); what it raises ends the loading.

    Raises:
        JobError: DISK_FULL, if what does not fit into memory has no room on the disk either.
    """
    specs = [replace(spec, size=size) for size in dict.fromkeys(sizes)]
    arrays = {s.size: _allocate(len(pictures), s.size, len(specs), scratch) for s in specs}

    def load(row: int) -> Unreadable | None:
        picture = pictures[row]
        try:
            image = decode(blob_path(blobs, picture.sha256).read_bytes())
        except (PictureError, OSError) as error:
            return Unreadable(picture.path, str(error))
        for each in specs:
            arrays[each.size][row] = preprocess(image, each)
        return None

    failures: list[Unreadable | None] = []
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        for start in range(0, len(pictures), _BLOCK):
            failures += pool.map(load, range(start, min(start + _BLOCK, len(pictures))))
            progress(len(failures), len(pictures))
    kept = np.array([row for row, failure in enumerate(failures) if failure is None], dtype=np.int64)
    if len(kept) < len(pictures):
        arrays = {size: _closed_up(array, kept) for size, array in arrays.items()}
    return PixelStore(arrays, [pictures[row] for row in kept], [failure for failure in failures if failure])


def _allocate(pictures: int, size: int, sizes: int, scratch: Path) -> Pixels:
    shape = (pictures, size, size, 3)
    needed = int(np.prod(shape, dtype=np.int64))
    if needed * sizes <= _IN_MEMORY_BYTES:
        return np.empty(shape, dtype=np.uint8)
    scratch.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(scratch).free) < needed * 1.1:
        raise JobError(
            Reason.DISK_FULL,
            f"{pictures} pictures of {size} × {size} pixels need {needed >> 20} MiB on the disk of the data folder, "
            f"{free >> 20} MiB are free: make room, or train at a smaller pixels.size",
        )
    return np.memmap(scratch / f"pixels-{size}.u8", dtype=np.uint8, mode="w+", shape=shape)


def _closed_up(array: Pixels, kept: NDArray[np.int64]) -> Pixels:
    """The rows that are kept, moved to the front in place."""
    for target, row in enumerate(kept):
        if target != row:
            array[target] = array[row]
    return array[: len(kept)]
