"""Pictures decoded and preprocessed once, kept as pixels for the whole training, and for a run that goes on with it."""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike_images import PictureError, Preprocessing, decode, preprocess
from lookalike_model.cores import cores
from lookalike_runtime.data_folder import write_whole
from lookalike_trainer.blobs import blob_path
from lookalike_trainer.training.dataset import Picture, Unreadable
from lookalike_trainer.training.errors import JobError, Reason

_IN_MEMORY_BYTES = 1 << 30
_BLOCK = 256
_WHOLE = "pixels.json"

Pixels = NDArray[np.uint8]
OnProgress = Callable[[int, int], None]


class PixelStore:
    """uint8 [pictures, s, s, 3] for each size s that is needed, in files that the system keeps in memory as it can.

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
    *,
    shared: bool = False,
) -> PixelStore:
    """Decode every picture once and preprocess it to each size; or take what an earlier run has left whole.

    Args:
        blobs: root of the contents.
        spec: its size is replaced by each of the sizes.
        scratch: folder for the pixels.
        progress: called with (done, total); what it raises ends the loading.
        shared: whether other processes are to take up what this one leaves.

    Raises:
        JobError: DISK_FULL, if there is room for the pixels neither on the disk nor, unless they are shared, in memory.
    """
    specs = [replace(spec, size=size) for size in dict.fromkeys(sizes)]
    key = _key(pictures, specs)
    if (left := _take_up(pictures, specs, scratch, key)) is not None:
        return left
    arrays = _allocate(len(pictures), [s.size for s in specs], scratch, 0 if shared else _IN_MEMORY_BYTES)

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
    with ThreadPoolExecutor(max_workers=cores()) as pool:
        for start in range(0, len(pictures), _BLOCK):
            failures += pool.map(load, range(start, min(start + _BLOCK, len(pictures))))
            progress(len(failures), len(pictures))
    kept = np.array([row for row, failure in enumerate(failures) if failure is None], dtype=np.int64)
    unreadable = [failure for failure in failures if failure]
    if unreadable:
        arrays = {size: _closed_up(array, kept) for size, array in arrays.items()}
    _finish(arrays, unreadable, scratch, key)
    return PixelStore(arrays, [pictures[row] for row in kept], unreadable)


def _key(pictures: Sequence[Picture], specs: Sequence[Preprocessing]) -> str:
    """Tells pixels that can be taken up from others."""
    told = json.dumps([[asdict(picture) for picture in pictures], [spec.to_json() for spec in specs]])
    return hashlib.sha256(told.encode()).hexdigest()


def _allocate(pictures: int, sizes: Sequence[int], scratch: Path, most_in_memory: int) -> dict[int, Pixels]:
    """On the disk, where a run that goes on finds them; in memory if they have no room there and are not too large."""
    shapes = {size: (pictures, size, size, 3) for size in sizes}
    needed = sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes.values())
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    if (free := shutil.disk_usage(scratch).free) >= needed * 1.1:
        return {size: np.memmap(_file(scratch, size), dtype=np.uint8, mode="w+", shape=shape) for size, shape in shapes.items()}
    if needed <= most_in_memory:
        return {size: np.empty(shape, dtype=np.uint8) for size, shape in shapes.items()}
    raise JobError(
        Reason.DISK_FULL,
        f"{pictures} pictures of {' and '.join(map(str, sizes))} pixels a side need {needed >> 20} MiB on the disk of the data folder, "
        f"{free >> 20} MiB are free: make room, or train at a smaller pixels.size",
    )


def _finish(arrays: dict[int, Pixels], unreadable: Sequence[Unreadable], scratch: Path, key: str) -> None:
    """Say, once the pixels are on the disk, that they are whole."""
    for array in arrays.values():
        whole = array if isinstance(array, np.memmap) else array.base
        if not isinstance(whole, np.memmap):
            return  # in memory
        whole.flush()
    document = {"key": key, "unreadable": [asdict(each) for each in unreadable]}
    write_whole(scratch / _WHOLE, json.dumps(document).encode())


def _take_up(pictures: Sequence[Picture], specs: Sequence[Preprocessing], scratch: Path, key: str) -> PixelStore | None:
    try:
        document = json.loads((scratch / _WHOLE).read_text(encoding="utf-8"))
        if document["key"] != key:
            return None
        unreadable = [Unreadable(**each) for each in document["unreadable"]]
        shapes = {spec.size: (len(pictures), spec.size, spec.size, 3) for spec in specs}
        arrays = {size: np.memmap(_file(scratch, size), dtype=np.uint8, mode="r", shape=shape) for size, shape in shapes.items()}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    gone = {each.path for each in unreadable}
    kept = [picture for picture in pictures if picture.path not in gone]
    return PixelStore({size: array[: len(kept)] for size, array in arrays.items()}, kept, unreadable)


def _file(scratch: Path, size: int) -> Path:
    return scratch / f"pixels-{size}.u8"


def _closed_up(array: Pixels, kept: NDArray[np.int64]) -> Pixels:
    """The rows that are kept, moved to the front in place."""
    for target, row in enumerate(kept):
        if target != row:
            array[target] = array[row]
    return array[: len(kept)]
