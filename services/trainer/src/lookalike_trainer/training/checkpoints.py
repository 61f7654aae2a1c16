"""A training's state on the disk: written aside, synced, renamed, with checksums. Nothing read back can run code.

A checkpoint is a folder of two files: `tensors.safetensors`, and `state.json` with the rest and both checksums. The last
two are kept, and beside them the last retreat point (see `course`).
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lookalike_runtime.data_folder import sync_folder
from lookalike_trainer.training.job import CHECKPOINTS
from lookalike_trainer.training.packing import pack, unpack

_TENSORS, _STATE = "tensors.safetensors", "state.json"
_KEPT = 2
_RETREAT = "-retreat"


class Checkpoints:
    """The checkpoints in a job's folder, numbered as they are written."""

    def __init__(self, folder: Path) -> None:
        self._root = folder / CHECKPOINTS

    def write(self, state: dict[str, Any], *, retreat: bool = False) -> None:
        """Keep a state; `retreat` marks what a training steps back to.

        Raises:
            OSError: it could not be written, and what was there before is as it was.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        number = max((_number(path) for path in self._all()), default=0) + 1
        path = self._root / f"{number:08}{_RETREAT if retreat else ''}"
        aside = self._root / f".{path.name}.part"
        shutil.rmtree(aside, ignore_errors=True)
        try:
            _write(aside, state)
            aside.rename(path)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        sync_folder(self._root)
        self._prune()

    def newest(self) -> dict[str, Any] | None:
        """The newest state that is whole; None if there is none."""
        return next(self._whole(self._all()), None)

    def retreat(self) -> dict[str, Any] | None:
        """The newest whole state among those that were marked."""
        return next(self._whole([path for path in self._all() if path.name.endswith(_RETREAT)]), None)

    def clear(self) -> None:
        """Remove them all."""
        shutil.rmtree(self._root, ignore_errors=True)

    def _all(self) -> list[Path]:
        """Newest first."""
        return sorted((path for path in self._root.glob("[0-9]*") if path.is_dir()), key=_number, reverse=True)

    def _whole(self, paths: list[Path]) -> Iterator[dict[str, Any]]:
        for path in paths:
            try:
                yield _read(path)
            except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
                print(f"checkpoint {path.name} is damaged ({error}): the one before is used", file=sys.stderr, flush=True)

    def _prune(self) -> None:
        every = self._all()
        kept = {*every[:_KEPT], *[path for path in every if path.name.endswith(_RETREAT)][:1]}
        for path in every:
            if path not in kept:
                shutil.rmtree(path, ignore_errors=True)


def _number(path: Path) -> int:
    return int(path.name.removesuffix(_RETREAT))


def _write(folder: Path, state: dict[str, Any]) -> None:
    folder.mkdir()
    document, tensors = pack(state)
    save_file(tensors, folder / _TENSORS)
    text = json.dumps(document)
    sums = {"tensors_sha256": _file_sum(folder / _TENSORS), "state_sha256": _sum(text)}
    (folder / _STATE).write_text(json.dumps({**sums, "state": text}), encoding="utf-8")
    for name in (_TENSORS, _STATE):
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(folder)


def _read(folder: Path) -> dict[str, Any]:
    kept = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    if _sum(kept["state"]) != kept["state_sha256"]:
        raise ValueError(f"the checksum of {_STATE} is another")
    if _file_sum(folder / _TENSORS) != kept["tensors_sha256"]:
        raise ValueError(f"the checksum of {_TENSORS} is another")
    state: dict[str, Any] = unpack(json.loads(kept["state"]), load_file(folder / _TENSORS))
    return state


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _file_sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
