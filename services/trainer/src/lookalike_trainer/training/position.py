"""How far a worker is, in a file that outlives it. Needs no torch: the service reads it when a worker has died."""

import mmap
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

POSITION = "position"
_FORMAT = "<q"
_BYTES = struct.calcsize(_FORMAT)


class PositionFile:
    """The step that a worker is at, written into mapped memory: a killed process loses nothing of it, and a step pays nothing."""

    def __init__(self, folder: Path) -> None:
        path = folder / POSITION
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.truncate(_BYTES)  # what an earlier run noted stays until there is something newer
            self._map = mmap.mmap(file.fileno(), _BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._map.close()

    def note(self, step: int) -> None:
        """The worker begins step `step` + 1."""
        struct.pack_into(_FORMAT, self._map, 0, step)


def read_position(folder: Path) -> int:
    """The step at which the last worker in a folder was; 0 if it never came to one."""
    try:
        return int(struct.unpack(_FORMAT, (folder / POSITION).read_bytes())[0])
    except (OSError, struct.error):
        return 0
